"""Functions that return the output of `diagnose` for an experiment.

Diagnosis, the table of reasoning -> lines for people, or the same facts as data
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops_dask.shape import MIB
from mops_helm.diagnose.study_diagnosis import SCRIPT, StudyDiagnosis
from mops_helm.forms import OutputFormat, format_bytes, render_data, render_table, render_yaml

if TYPE_CHECKING:
    from modelops_dask.diagnose.result import ArmReport, Diagnosis, Evidence, Example, Pollution, TaskRef

WIDTH = 12  # of the column of names
PARAMS_CHARACTERS = 100  # shown
SHOWN_CHANGES = 8


def render_diagnosis(
    result: StudyDiagnosis, apply_command: str, folder: Path | None, output: OutputFormat
) -> str:
    """A whole diagnosis. `apply_command` applies its values; `folder` has its files, if any."""
    diagnosis = result.diagnosis
    if output != "table":
        return render_data(diagnosis.as_json(), output)
    script = shlex.join([str(result.python), str(folder / SCRIPT)]) if folder else ""
    blocks = [
        [f"{diagnosis.verdict}: {diagnosis.because}", f"Confidence {diagnosis.confidence:.3g}"],
        list(_render_evidence(diagnosis.evidence)),
        list(_render_polluter(diagnosis.polluter, script)) if diagnosis.polluter else [],
        list(_render_sources(diagnosis)),
        list(_render_growth(diagnosis)),
        [_render_arms(diagnosis.arms)],
        [
            _align("Not excluded" if not number else "", text)
            for number, text in enumerate(diagnosis.not_excluded)
        ],
        [_render_run(diagnosis, folder)],
        list(_render_use(diagnosis, apply_command)),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def render_values(diagnosis: "Diagnosis") -> str:
    """A values file to use until the cause is fixed, with the reason."""
    head = f"# From mops-helm diagnose: {diagnosis.verdict}.\n# {diagnosis.because}.\n"
    return head + render_yaml(diagnosis.values)


def _align(name: str, text: str) -> str:
    return f"{name:<{WIDTH}} {text}".rstrip()


def describe_evidence(evidence: "Evidence") -> str:
    """How many results of which arm differ from those of another; "" if none was compared."""
    if not evidence.compared:
        return ""
    first, second = (*evidence.arms, "", "")[:2]
    pair = f"one run of {first} and another" if first == second else f"{first} and {second}"
    repeats = f", seen in {evidence.seen} repeats" if evidence.seen else ""
    return f"{evidence.differing:,} of {evidence.compared:,} results differ between {pair}{repeats}"


def _render_evidence(evidence: "Evidence") -> Iterator[str]:
    if text := describe_evidence(evidence):
        yield _align("Evidence", text)
    if evidence.example:
        yield _align("For example", describe_example(evidence.example))
    for line in evidence.lines:
        yield _align("", line)


def describe_example(example: "Example") -> str:
    """Which result differs, its position, and the expected value."""
    location = [
        f"task {example.task}",
        f"output {example.output}" if example.output else "",
        f"column {example.column}" if example.column else "",
        f"row {example.row}" if example.row is not None else "",
        example.path or "",
        f"byte {example.byte}" if example.byte is not None else "",
    ]
    distance = " (rounding)" if example.kind == "rounding" else ""
    if example.relative is not None and not distance:
        distance = f" (relative difference {example.relative:.2g})"
    return f"{', '.join(filter(None, location))}: {example.found}, expected {example.expected}{distance}"


def describe_task(task: "TaskRef") -> str:
    """A task with its parameters, shortened, and its seed."""
    params = json.dumps(task.params, ensure_ascii=False)
    if len(params) > PARAMS_CHARACTERS:
        params = f"{params[:PARAMS_CHARACTERS]}..."
    return f"task {task.task}  {params}  seed {task.seed}"


def _render_polluter(polluter: "Pollution", script: str) -> Iterator[str]:
    for number, task in enumerate(polluter.tasks):
        yield _align("" if number else "Polluter", describe_task(task))
    yield _align("changes", describe_task(polluter.victim))
    for number, text in enumerate(polluter.changed[:SHOWN_CHANGES]):
        yield _align("" if number else "by leaving", text)
    if len(polluter.changed) > SHOWN_CHANGES:
        yield _align("", f"and {len(polluter.changed) - SHOWN_CHANGES} more")
    if polluter.script and script:
        yield _align("Reproduce", script)


def _render_sources(diagnosis: "Diagnosis") -> Iterator[str]:
    for number, source in enumerate(diagnosis.sources):
        location = f"{source.file}:{source.line}" if source.file else "outside the bundle's own code"
        proof = "; with it frozen, runs agree" if source.confirmed else ""
        yield _align("" if number else "Chance from", f"{source.call} ({source.kind}) in {location}{proof}")


def _render_growth(diagnosis: "Diagnosis") -> Iterator[str]:
    if leak := diagnosis.memory:
        slope, low, high = (
            f"{n_bytes / MIB:.2f} MiB" for n_bytes in (leak.slope_bytes_per_task, leak.low, leak.high)
        )
        yield _align("Growth", f"{slope} a task (99%: {low} to {high})")
        yield _align("", f"replaced after {leak.max_process_reuse:,} tasks, a process stays within its limit")


def _render_arms(arms: "tuple[ArmReport, ...]") -> str:
    return render_table(
        ["ARM", "STATE", "DIFFER", "RUNS", "SECONDS", "PEAK", "WHY"],
        [
            [
                arm.arm,
                arm.state,
                f"{arm.differing:,} of {arm.tasks:,}" if arm.tasks else "-",
                str(arm.lanes or "-"),
                f"{arm.seconds:.1f}" if arm.lanes else "-",
                format_bytes(arm.peak_bytes) if arm.peak_bytes else "-",
                arm.why,
            ]
            for arm in arms
        ],
    )


def _render_run(diagnosis: "Diagnosis", folder: Path | None) -> str:
    time = f"{diagnosis.seconds:.0f} of {diagnosis.budget_seconds:.0f} s"
    orders = f"in {diagnosis.orders} orders (seed {diagnosis.seed})"
    return f"{diagnosis.tasks} tasks of the study, {orders}; {time}." + (
        f" Kept in {folder}" if folder else ""
    )


def _render_use(diagnosis: "Diagnosis", apply_command: str) -> Iterator[str]:
    if not diagnosis.needs_workaround:
        return
    preset = diagnosis.values.get("preset")
    yield f"Use until it is fixed: preset {preset}" if preset else "Use meanwhile:"
    yield from (f"  {line}" for line in render_yaml(diagnosis.values).splitlines())
    yield f"Apply it: {apply_command}"


def render_reasoning(output: OutputFormat) -> str:
    """The table from facts to verdicts, with descriptions of the arms and the facts."""
    from modelops_dask.diagnose.trials import arms
    from modelops_dask.diagnose.verdict import verdict

    rows = [
        {
            "when": {name: sorted(map(_describe_fact, allowed)) for name, allowed in row.facts.items()},
            "verdict": row.verdict,
            "because": row.because,
            "arms": [arm for arm in row.arms if arm],
        }
        for row in verdict.TABLE
    ]
    if output != "table":
        meanings = {"arms": {arm.name: arm.description for arm in arms.ARMS}, "facts": dict(verdict.FACTS)}
        return render_data({**meanings, "rows": rows}, output)
    blocks = [
        "Arms: ways to run the same tasks.",
        render_table(["ARM", "WHAT"], [[arm.name, arm.description] for arm in arms.ARMS]),
        "Facts: what the arms show.",
        render_table(["FACT", "MEANS"], [list(item) for item in verdict.FACTS.items()]),
        "Reasoning: the first row whose facts match.",
        *(f"{number:>2}  {_render_rule(row)}" for number, row in enumerate(rows, 1)),
    ]
    return "\n\n".join(blocks)


def _render_rule(row: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{name} {' or '.join(allowed)}" for name, allowed in row["when"].items())
    proof = f" ({' against '.join(row['arms'])})" if row["arms"] else ""
    return f"{row['verdict']}{proof}\n    if   {facts or 'anything else'}\n    then {row['because']}"


def _describe_fact(value: bool | None) -> str:
    return {True: "differs", False: "same", None: "unknown"}[value]
