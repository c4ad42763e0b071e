"""Charts and programs of every version start pod/driver.py by this name."""

import sys

from modelops_dask.pod.driver import main

if __name__ == "__main__":
    sys.exit(main())
