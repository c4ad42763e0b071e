"""Functions that return what `preset diagnose` prints of an experiment.

Diagnosis, the table of reasoning -> lines for people, or the same facts as data
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mops_helm.diagnosing import SCRIPT, Experiment
from mops_helm.render import data, size, table, yaml_text

if TYPE_CHECKING:
    from modelops_dask.diagnose.result import ArmReport, Diagnosis, Evidence, Example, Pollution, TaskRef

MIB = 1024 * 1024
WIDTH = 12  # of the column of names
SHOWN_PARAMS = 100  # characters
SHOWN_CHANGES = 8


def diagnosis(done: Experiment, apply: str, folder: Path | None, form: str) -> str:
    """A whole diagnosis. `apply` is the command that applies its values, `folder` where it is kept."""
    found = done.found
    if form != "table":
        return data(found.as_json(), form)
    script = shlex.join([str(done.python), str(folder / SCRIPT)]) if folder else ""
    blocks = [
        [f"{found.verdict}: {found.because}", f"Confidence {found.confidence:.3g}"],
        list(_evidence(found.evidence)),
        list(_polluter(found.polluter, script)) if found.polluter else [],
        list(_sources(found)),
        list(_memory(found)),
        [_arms(found.arms)],
        [_line("Not excluded" if not number else "", text) for number, text in enumerate(found.not_excluded)],
        [_ran(found, folder)],
        list(_use(found, apply)),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def values(found: "Diagnosis") -> str:
    """A values file: what to use meanwhile, and why."""
    return (
        f"# From mops-helm preset diagnose: {found.verdict}.\n# {found.because}.\n{yaml_text(found.values)}"
    )


def _line(name: str, text: str) -> str:
    return f"{name:<{WIDTH}} {text}".rstrip()


def evidence_words(evidence: "Evidence") -> str:
    """How many results of which arm are not as in which other; "" when none is compared."""
    if not evidence.compared:
        return ""
    one, other = (*evidence.arms, "", "")[:2]
    against = f"one run of {one} and another" if one == other else f"{one} and {other}"
    seen = f", seen in {evidence.seen} repeats" if evidence.seen else ""
    return f"{evidence.differing:,} of {evidence.compared:,} results differ between {against}{seen}"


def _evidence(evidence: "Evidence") -> Iterator[str]:
    if text := evidence_words(evidence):
        yield _line("Evidence", text)
    if evidence.example:
        yield _line("For example", example_words(evidence.example))
    for line in evidence.lines:
        yield _line("", line)


def example_words(example: "Example") -> str:
    """Which result, where in it, and what was expected."""
    where = [f"task {example.task}", f"output {example.output}" if example.output else ""]
    where += [f"column {example.column}" if example.column else ""]
    where += [f"row {example.row}" if example.row is not None else ""]
    where += [example.path or "", f"byte {example.byte}" if example.byte is not None else ""]
    far = " (rounding)" if example.kind == "rounding" else ""
    if example.relative is not None and not far:
        far = f" (relative difference {example.relative:.2g})"
    return f"{', '.join(filter(None, where))}: {example.found}, expected {example.expected}{far}"


def task_words(task: "TaskRef") -> str:
    """A task with its parameters, cut short, and its seed."""
    params = json.dumps(task.params, ensure_ascii=False)
    if len(params) > SHOWN_PARAMS:
        params = f"{params[:SHOWN_PARAMS]}..."
    return f"task {task.task}  {params}  seed {task.seed}"


def _polluter(polluter: "Pollution", script: str) -> Iterator[str]:
    for number, task in enumerate(polluter.tasks):
        yield _line("" if number else "Polluter", task_words(task))
    yield _line("changes", task_words(polluter.victim))
    for number, text in enumerate(polluter.changed[:SHOWN_CHANGES]):
        yield _line("" if number else "by leaving", text)
    if len(polluter.changed) > SHOWN_CHANGES:
        yield _line("", f"and {len(polluter.changed) - SHOWN_CHANGES} more")
    if polluter.script and script:
        yield _line("Reproduce", script)


def _sources(found: "Diagnosis") -> Iterator[str]:
    for number, source in enumerate(found.sources):
        where = f"{source.file}:{source.line}" if source.file else "outside the bundle's own code"
        proof = "; with it frozen, runs agree" if source.confirmed else ""
        yield _line("" if number else "Chance from", f"{source.call} ({source.kind}) in {where}{proof}")


def _memory(found: "Diagnosis") -> Iterator[str]:
    if leak := found.memory:
        slope, low, high = (
            f"{each / MIB:.2f} MiB" for each in (leak.slope_bytes_per_task, leak.low, leak.high)
        )
        yield _line("Growth", f"{slope} a task (99%: {low} to {high})")
        yield _line("", f"replaced after {leak.max_process_reuse:,} tasks, a process stays in its limit")


def _arms(arms: "tuple[ArmReport, ...]") -> str:
    return table(
        ["ARM", "STATE", "DIFFER", "RUNS", "SECONDS", "PEAK", "WHY"],
        [
            [
                arm.arm,
                arm.state,
                f"{arm.differing:,} of {arm.tasks:,}" if arm.tasks else "-",
                str(arm.lanes or "-"),
                f"{arm.seconds:.1f}" if arm.lanes else "-",
                size(arm.peak_bytes) if arm.peak_bytes else "-",
                arm.why,
            ]
            for arm in arms
        ],
    )


def _ran(found: "Diagnosis", folder: Path | None) -> str:
    time = f"{found.seconds:.0f} of {found.budget_seconds:.0f} s"
    orders = f"in {found.orders} orders (seed {found.seed})"
    return f"{found.tasks} tasks of the study, {orders}; {time}." + (f" Kept in {folder}" if folder else "")


def _use(found: "Diagnosis", apply: str) -> Iterator[str]:
    if not found.to_mend:
        return
    preset = found.values.get("preset")
    yield f"Use meanwhile: preset {preset}" if preset else "Use meanwhile:"
    yield from (f"  {line}" for line in yaml_text(found.values).splitlines())
    yield f"Apply it: {apply}"


def reasoning(form: str) -> str:
    """The table from facts to verdicts, with what the arms and the facts are."""
    from modelops_dask.diagnose import arms, verdict

    rows = [
        {
            "when": {name: sorted(map(_fact, allowed)) for name, allowed in row.facts.items()},
            "verdict": row.verdict,
            "because": row.because,
            "arms": [arm for arm in row.arms if arm],
        }
        for row in verdict.TABLE
    ]
    if form != "table":
        listed = {"arms": {arm.name: arm.what for arm in arms.ARMS}, "facts": dict(verdict.FACTS)}
        return data({**listed, "rows": rows}, form)
    blocks = [
        "Arms: ways to run the same tasks.",
        table(["ARM", "WHAT"], [[arm.name, arm.what] for arm in arms.ARMS]),
        "Facts: what the arms show.",
        table(["FACT", "MEANS"], [list(item) for item in verdict.FACTS.items()]),
        "Reasoning: the first of these whose facts are so.",
        *(f"{number:>2}  {_row(row)}" for number, row in enumerate(rows, 1)),
    ]
    return "\n\n".join(blocks)


def _row(row: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{name} {' or '.join(allowed)}" for name, allowed in row["when"].items())
    proof = f" ({' against '.join(row['arms'])})" if row["arms"] else ""
    return f"{row['verdict']}{proof}\n    if   {facts or 'anything else'}\n    for  {row['because']}"


def _fact(value: bool | None) -> str:
    return {True: "differs", False: "same", None: "unknown"}[value]
