"""The arms of the experiment: ways to run the same tasks that differ in what tasks can share.

Arm -> which executor, how many lanes side by side -> experiment.py runs them, about in this order

A lane is a list of tasks that are run one after another, all in one process or each in its own; the lanes of
an arm begin together. Does not run anything: trial.py does, on a worker.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from difflib import get_close_matches

from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings

SIDE_BY_SIDE = 4  # lanes that run together: the processes of a pod, as presets have them


@dataclass(frozen=True)
class Arm:
    """A way to run tasks. `threads`: its lanes are threads of one process instead of separate processes."""

    name: str
    executor: str  # Settings.executor_type
    description: str
    lanes: int = 1
    fresh_venv: bool = False
    threads: bool = False

    def isolate_settings(self, study_settings: Settings) -> Settings:
        """The settings of a worker for this arm: the study's, with the arm's isolation, and unseeded global
        generators.

        A process is replaced only for the arm's own reasons.
        """
        return replace(
            study_settings,
            preset="",
            executor_type=self.executor,
            force_fresh_venv=self.fresh_venv,
            seed_globals=False,
            max_process_reuse=0,
            process_ttl_seconds=0,
            subprocess_pool_size=0,
        )


ARMS = (
    Arm("cold", "cold", "a new interpreter for each task, one at a time: the reference"),
    Arm("fresh-venv", "cold", "a new interpreter and a new environment for each task", fresh_venv=True),
    Arm("single-process", "isolated_warm", "one process that runs task after task, in several orders"),
    Arm("baseline", "isolated_warm", f"{SIDE_BY_SIDE} such processes at the same time", lanes=SIDE_BY_SIDE),
    Arm(
        "cold-concurrent",
        "cold",
        f"a new interpreter for each task, {SIDE_BY_SIDE} at the same time; only if baseline or "
        "single-process differ",
        lanes=SIDE_BY_SIDE,
    ),
    Arm("isolated-fork", "isolated_fork", "a fork for each task of a process that never ran one"),
    Arm("direct", "direct", "in the Dask worker's own process, a new worker for each order"),
    Arm(
        "threads",
        "direct",
        "in threads of one Dask worker; only if direct is the same as cold",
        lanes=SIDE_BY_SIDE,
        threads=True,
    ),
    Arm(
        "native-threads",
        "cold",
        "a new interpreter for each task, with 1 native thread; only if the study asks for more",
    ),
)
NAMES = tuple(arm.name for arm in ARMS)
ALWAYS = ("cold",)


def find_arm(name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in ARMS if arm.name == name)


def select_arms(names: Collection[str]) -> tuple[str, ...]:
    """The arms to run, in order: the named ones, and the reference; if none is named, all. Raises
    BadInput.
    """
    if unknown := sorted(set(names) - set(NAMES)):
        near = [other for name in unknown for other in get_close_matches(name, NAMES, 1)]
        hint = f" Did you mean {' and '.join(near)}?" if near else ""
        raise BadInput(f"Unknown arm {', '.join(unknown)}; the arms are {', '.join(NAMES)}.{hint}")
    return tuple(name for name in NAMES if not names or name in names or name in ALWAYS)
