"""`make bench-diagnose`: `preset diagnose` on models whose cause is known, and on healthy ones.

models under tests/bundles/diagnose -> a few diagnoses each, 20 of healthy ones, by other seeds -> verdicts,
what they miss, seconds -> rates of errors

Models under benchmarks/diagnose_models, of which most need packages from PyPI, are diagnosed once. A healthy
one may be called inconclusive, if too few tasks were compared; that is counted apart.

Exits 1 when a healthy model was called sick, a sick one something else than it is, or when a diagnosis
exceeded its budget by more than a tenth.
`diagnose.py [--runs N] NAME...` runs only those named, `--more` only the second kind.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from diagnose_helpers import MORE_NAMES, NAMES, Case, wrong
from modelops_dask.diagnose import diagnose, workers
from modelops_dask.errors import MopsError
from modelops_dask.shape import Shape
from modelops_dask.workers.local import machine

RUNS, RUNS_HEALTHY = 3, 20
BUDGET_SECONDS = 600
MOST_SECONDS = 1.1 * BUDGET_SECONDS


@dataclass(frozen=True)
class Run:
    """A diagnosis: what it says, what is wrong with that (first a verdict, then what it misses), how long."""

    verdict: str
    wrong: tuple[str, ...]
    seconds: float


def run(case: Case, seed: int) -> Run:
    """Diagnose a model once, with caches and workers of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings = case.settings(Path(folder))
        bundle = case.prepare(settings)
        shape = Shape(1, 4, 1, machine()[1] // 2)
        began = time.monotonic()
        try:
            with workers(shape, settings) as client:
                found = diagnose(
                    client, case.spec, bundle, settings, seed=seed, budget_seconds=BUDGET_SECONDS
                )
        except MopsError as error:
            return Run("none", (str(error),), time.monotonic() - began)
        seconds = time.monotonic() - began
    return Run(found.verdict, tuple(wrong(found.as_json(), case.label)), seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description="Diagnose models whose cause is known.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*NAMES, *MORE_NAMES)))
    parser.add_argument("--more", action="store_true", help="only those of benchmarks/diagnose_models")
    parser.add_argument(
        "--runs", type=int, help=f"of each; else {RUNS}, and {RUNS_HEALTHY} of healthy models"
    )
    asked = parser.parse_args()
    print(f"{'model':<22}{'cause':<24}{'right':>8}{'seconds':>9}   otherwise")
    done: dict[str, list[Run]] = {}
    for name in asked.names or (MORE_NAMES if asked.more else (*NAMES, *MORE_NAMES)):
        case = Case(name)
        cause = case.label.verdict
        usual = 1 if name in MORE_NAMES else RUNS_HEALTHY if cause == "healthy" else RUNS
        runs = asked.runs or usual
        done[name] = []
        for seed in range(runs):
            done[name].append(run(case, seed))
            print(".", end="", file=sys.stderr, flush=True)
        right = sum(not each.wrong for each in done[name])
        seconds = statistics.median(each.seconds for each in done[name])
        others = Counter(text for each in done[name] for text in each.wrong)
        said = "; ".join(f"{count} x {text}" for text, count in others.items())
        print(f"{name:<22}{cause:<24}{right:>3} of {runs:<2}{seconds:>8.1f}   {said}", flush=True)
    return 1 if _rates(done) else 0


def _rates(done: dict[str, list[Run]]) -> int:
    """Print the rates of errors; how many errors there are."""
    healthy = [each for name, runs in done.items() if Case(name).label.verdict == "healthy" for each in runs]
    sick = [(Case(name).label, each) for name, runs in done.items() for each in runs if each not in healthy]
    unsure = sum(each.verdict == "inconclusive" for each in healthy)
    alarms = sum(bool(each.wrong) for each in healthy) - unsure
    called = sum(each.verdict != label.verdict for label, each in sick)
    missed = sum(each.verdict == label.verdict and bool(each.wrong) for label, each in sick)
    late = sum(each.seconds > MOST_SECONDS for runs in done.values() for each in runs)
    print()
    for text, count, of in (
        ("healthy models called sick", alarms, len(healthy)),
        ("healthy models called inconclusive", unsure, len(healthy)),
        ("sick models called something else", called, len(sick)),
        ("right verdicts that miss the polluter, the source or the growth", missed, len(sick) - called),
        (f"diagnoses that took more than {MOST_SECONDS:g} s", late, len(healthy) + len(sick)),
    ):
        if of:
            print(f"{text}: {count} of {of} ({count / of:.0%})")
    return alarms + called + missed + late


if __name__ == "__main__":
    sys.exit(main())
