"""`make bench`: each benchmark with its bound, both sides measured in turn in one run.

Prints the figures with their spread (lowest to highest) and exits 1 when a bound is missed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import help_time
import study_rate


def main() -> int:
    missed = [module.__name__ for module in (help_time, study_rate) if not module.measure()]
    print(f"missed: {', '.join(missed)}" if missed else "all bounds are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
