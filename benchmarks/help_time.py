"""How long `mops-helm --help` takes, beside a Python that only imports click."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

AT_MOST = 2.0
ROUNDS = 21


def measure() -> bool:
    """Print both times and their ratio; whether it is within the bound."""
    help_command = [str(Path(sys.executable).with_name("mops-helm")), "--help"]
    click_command = [sys.executable, "-c", "import click"]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_seconds(help_command))
        theirs.append(_seconds(click_command))
    ratio = median(ours) / median(theirs)
    print(f"mops-helm --help    {_spread(ours)}")
    print(f"import click        {_spread(theirs)}")
    print(f"ratio of medians    {ratio:.2f}, at most {AT_MOST:g}\n")
    return ratio <= AT_MOST


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _spread(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:5.0f} ms ({min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f})"
