"""Charts and programs of every version start pod/init.py by this name."""

import sys

from modelops_dask.pod.init import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
