"""Explicit parameter sets in study.yaml: how fast they are read, beside 0.1.0.

one file -> a process of each side, in turn -> CPU seconds until the sets are a table, peak of its memory

Reading is one thread's work, so CPU time says the same as a clock on a machine with nothing else to do.
STUDY_SETS=20000 measures fewer sets.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import holds
from previous import ROOT, extract_previous

SETS = int(os.environ.get("STUDY_SETS", "1000000"))
RATIO_AT_LEAST = 5.0  # 0.1.0's seconds, divided by ours

SIDE = """
import sys, time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
try:
    from modelops_dask.plan.spec import load
except ImportError:  # 0.1.0
    from modelops_dask.study.spec import load

Path(sys.argv[3]).write_text("model: m.s\\nscenario: b\\nsets: [{x: 1}]\\n")
load(Path(sys.argv[3])).table  # what is imported when it is first needed
start = time.process_time()
assert load(Path(sys.argv[1])).table.num_rows == int(sys.argv[2])
print(time.process_time() - start, getrusage(RUSAGE_SELF).ru_maxrss * 1024)
"""


def measure() -> bool:
    """Print the seconds of both sides; whether the bound is met."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "study.yaml")
        _write_study(study)
        for name, tree in (("now", ROOT), ("0.1.0", extract_previous(Path(folder)))):
            seconds[name], peak_bytes = _read(tree, study)
            print(f"  {f'{SETS:,} sets, {name}':<34}{seconds[name]:>11,.2f} s   {peak_bytes / 2**30:.2f} GiB")
    ratio = seconds["0.1.0"] / seconds["now"]
    return holds("times as fast as 0.1.0", ratio, RATIO_AT_LEAST, at_least=True)


def _write_study(path: Path) -> None:
    with path.open("w") as file:
        file.write("model: models.sir.simulate\nscenario: baseline\nreplicates: 2\nsets:\n")
        for number in range(SETS):
            file.write(f"  - {{r0: {1 + number / SETS:.7f}, infectious_days: {number % 30 + 1}}}\n")


def _read(tree: Path, study: Path) -> tuple[float, int]:
    """Seconds and the peak of memory in bytes."""
    command = [sys.executable, "-c", SIDE, str(study), str(SETS), str(study.with_name("one.yaml"))]
    env = os.environ | {"PYTHONPATH": str(tree / "engine")}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    seconds, peak_bytes = done.stdout.split()
    return float(seconds), int(peak_bytes)
