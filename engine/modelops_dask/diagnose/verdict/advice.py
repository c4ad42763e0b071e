"""What to use until the bug is fixed: a preset by its name, and the same as chart values.

verdict, facts -> preset, values to combine with one's own

Values files are not read here: `mops-helm diagnose` writes and applies them.
"""

from collections.abc import Mapping

from modelops_dask.diagnose.verdict.verdict import Fact
from modelops_dask.shape import MIB

EXECUTORS = {  # the `executor` values of each isolation preset
    "baseline": ("isolated_warm", False),
    "single-process": ("isolated_warm", False),
    "isolated-fork": ("isolated_fork", False),
    "cold": ("cold", False),
    "fresh-venv": ("isolated_warm", True),
}


def recommend_preset(verdict: str, facts: Mapping[str, Fact], too_big: bool = False) -> str:
    """The preset that works around the cause; for a nondeterministic model there is none but baseline.

    If the cause is not known, it is the safest isolation: a process for each task.
    """
    if verdict in ("process-reuse", "inconclusive"):
        return "isolated-fork" if facts.get("fork") is False else "cold"
    if verdict == "memory" and too_big:
        return "memory-heavy"
    return {"cached-environment": "fresh-venv", "concurrency": "single-process"}.get(verdict, "baseline")


def recommend_values(
    verdict: str,
    facts: Mapping[str, Fact],
    environment: str,
    *,
    max_process_reuse: int = 0,
    process_bytes: int = 0,
    writes_environment: bool = False,
) -> dict:
    """The values of preset(), and those that the cause needs in addition. `environment` is
    executor.environment.

    max_process_reuse, 0 to keep it; process_bytes is the memory of a process in which one task did not fit,
    else 0. writes_environment: the model changes its environment, as it does if cold differs from itself.
    """
    if process_bytes:
        return {"workers": {"memoryPerProcess": f"{-(-2 * process_bytes // MIB)}Mi"}}
    name = recommend_preset(verdict, facts)
    kind, fresh = EXECUTORS[name]
    executor = {"type": kind, "environment": environment, "forceFreshVenv": fresh}
    values: dict = {"preset": name, "executor": executor}
    if verdict == "cached-environment" and (facts.get("cold") or writes_environment):
        executor["type"] = "cold"
        name = ""
    if environment == "image" or not name:  # a preset's name fixes its environment and type
        del values["preset"]
    if verdict == "threads":
        values["workers"] = {"threads": 1}
    if verdict == "concurrency":
        values["workers"] = {"processes": 1, "threads": 1}
    if max_process_reuse:
        executor["maxProcessReuse"] = max_process_reuse
    return values
