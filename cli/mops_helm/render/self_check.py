"""The lines of a summary about a self-check: what was compared, and the next commands.

SelfCheck -> lines: differences by cause, how to find the cause, how to replace results
"""

import json
import shlex
from collections.abc import Collection
from typing import Any, NamedTuple

from modelops_dask.documents.quoting import quote_path
from modelops_dask.store.checks import SelfCheck, describe
from mops_helm.forms import shorten_path

# Executors to replace results with: a task then never runs in a process that ran another.
SAFE_PRESETS = {"isolated_warm": "isolated-fork", "direct": "isolated-fork", "isolated_fork": "cold"}


CURED = ("order", "outside")  # causes


class Origin(NamedTuple):
    """The origin of a study.

    Attributes:
        spec: The study file.
        flags: The flags of its values, without those of an isolation.
        binds_executor: Whether they set values of the executor, which no isolation preset allows.
        bundle: --bundle, "" without.
    """

    spec: str = "SPEC"
    flags: str = ""
    binds_executor: bool = False
    bundle: str = ""


UNKNOWN_ORIGIN = Origin()


def render_self_check(self_check: SelfCheck, store: str, origin: Origin) -> list[str]:
    """The lines of a summary."""
    lines = describe(self_check)
    if not self_check.n_compared:
        return [*lines, f"  mops-helm study verify {_quote_store(store)} --sample 1"]
    if not self_check.different:
        return lines
    if outputs := sorted({name for each in self_check.different for name in each.outputs}):
        lines.append(
            "If an output should not depend on the seed alone, such as a time stamp, list it in the "
            f"study file, so that it is not compared: volatile: {json.dumps(outputs)}"
        )
    return lines + render_commands(
        store,
        origin,
        executors=cured_executors(self_check),
        equal_replicates=any(each.equal_replicates for each in self_check.different),
    )


def render_commands(
    store: str, origin: Origin, *, executors: Collection[str], equal_replicates: bool
) -> list[str]:
    """Commands that find the cause of differences, and that replace rows of these executors.

    equal_replicates: if tasks are isolated, replicates are equal, so isolation alone does not help.
    """
    lines = ["To find the cause:", f"  {cause_command(origin)}"]
    if commands := redo_commands(store, origin, executors):
        if equal_replicates:
            lines.append(
                "Run alone, replicates of a set return the same: isolating tasks would make all of them "
                "equal. Draw from generators that are made from the seed, and run the study into another "
                "--store. Only if the model is not random: set deterministic: true in the study file, then "
                "replace the results:"
            )
        else:
            lines.append("To replace the results by ones that earlier tasks cannot change:")
        lines += [f"  {command}" for command in commands]
    if origin.spec == UNKNOWN_ORIGIN.spec:
        lines.append("SPEC is the study file.")
    return lines


def self_check_fields(self_check: SelfCheck | None, store: str, origin: Origin) -> dict[str, Any] | None:
    """The same facts as plain data."""
    if self_check is None:
        return None
    commands: dict[str, Any] = {}
    if self_check.different:
        commands = {
            "find_cause": cause_command(origin),
            "way_back": redo_commands(store, origin, cured_executors(self_check)),
        }
    return self_check.as_json() | commands


def cause_command(origin: Origin) -> str:
    """The command that finds the cause."""
    return _join("mops-helm diagnose", quote_path(origin.spec), _bundle_flag(origin))


def cured_executors(self_check: SelfCheck) -> set[str]:
    """The executors whose rows differ because of how they were run."""
    return {each.executor for each in self_check.different if each.cause in CURED}


def redo_commands(store: str, origin: Origin, executors: Collection[str]) -> list[str]:
    """The commands that replace the rows of these executors, if another executor is safer."""
    return [
        _join(
            "mops-helm study run",
            quote_path(origin.spec),
            _bundle_flag(origin),
            f"--store {_quote_store(store)}",
            origin.flags,
            _isolation_flag(SAFE_PRESETS[executor], origin),
            f"--redo executor={executor}",
        )
        for executor in sorted(set(executors) & SAFE_PRESETS.keys())
    ]


def _isolation_flag(preset: str, origin: Origin) -> str:
    if origin.binds_executor:
        return f"--set executor.type={preset.replace('-', '_')}"
    return f"--preset {preset}"


def _bundle_flag(origin: Origin) -> str:
    return f"--bundle {shlex.quote(origin.bundle)}" if origin.bundle else ""


def _quote_store(store: str) -> str:
    return quote_path(shorten_path(store))


def _join(*clauses: str) -> str:
    return " ".join(filter(None, clauses))
