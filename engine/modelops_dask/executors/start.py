"""Run a script from its cached bytecode, because Python compiles scripts started by path each time.

python start.py SCRIPT ARGUMENT...

For a runner that is a tenth of its start.
"""

import sys
from importlib.machinery import SourceFileLoader

if __name__ == "__main__":
    del sys.argv[0]
    __file__ = sys.argv[0]
    exec(SourceFileLoader(__name__, __file__).get_code(__name__))  # type: ignore[arg-type]  # source has code
