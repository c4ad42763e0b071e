"""Charts and programs of every version start workers/drain.py by this name."""

import sys

from modelops_dask.workers.drain import main

if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
