"""`make bench`: each benchmark with its bound, both sides measured in turn in one run.

Prints medians with quartiles, and exits 1 when a bound is missed. `run.py NAME...` runs only those named.
"""

import importlib
import os
import platform
import sys
from pathlib import Path

BENCHMARKS = ("help_time", "study_rate", "executors", "environments", "reseeding", "self_check", "previous")


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parent))
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    missed = []
    for name in sys.argv[1:] or BENCHMARKS:
        # Here, not above: other libraries' new processes import this file, and are measured too.
        if not importlib.import_module(name).measure():
            missed.append(name)
        print(f"  load {os.getloadavg()[0]:.1f}\n")
    print(f"missed: {', '.join(missed)}" if missed else "all bounds are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
