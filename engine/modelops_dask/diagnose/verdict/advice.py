"""What to use meanwhile: a preset by its name, and the same as values of the chart.

verdict, facts -> preset, values to lay over one's own

Does not read values files: `mops-helm preset diagnose` writes and applies them.
"""

from collections.abc import Mapping

from modelops_dask.diagnose.verdict.verdict import Fact
from modelops_dask.shape import MIB

EXECUTORS = {  # what each isolation preset states of `executor`
    "baseline": ("isolated_warm", False),
    "single-process": ("isolated_warm", False),
    "isolated-fork": ("isolated_fork", False),
    "cold": ("cold", False),
    "fresh-venv": ("isolated_warm", True),
}


def recommend_preset(verdict: str, facts: Mapping[str, Fact], too_big: bool = False) -> str:
    """The preset that lives with the cause; for a model that differs by itself there is none but baseline.

    Where the cause is not known, it is the safest isolation: a process for each task.
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
    """The values of preset(), and what the cause asks for besides. `environment` is executor.environment.

    max_process_reuse, 0 for what it was; process_bytes is what a process had when one task was too big for
    it, else 0. writes_environment: the model changes the environment that it runs in, as it does when cold
    differs from itself.
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
    if environment == "image" or not name:  # a preset's name binds its environment and type
        del values["preset"]
    if verdict == "threads":
        values["workers"] = {"threads": 1}
    if verdict == "concurrency":
        values["workers"] = {"processes": 1, "threads": 1}
    if max_process_reuse:
        executor["maxProcessReuse"] = max_process_reuse
    return values
