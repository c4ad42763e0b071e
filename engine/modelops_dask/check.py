"""Charts and programs of every version start pod/check.py by this name."""

import json
import sys

from modelops_dask.pod.check import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
