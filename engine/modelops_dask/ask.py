"""Charts and programs of every version start pod/ask.py by this name."""

import sys

from modelops_dask.pod.ask import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
