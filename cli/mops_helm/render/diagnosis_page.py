"""The page of a diagnosis: verdict, evidence, polluters, every arm, the reasoning, the values.

Diagnosis -> HTML, one file that needs no network

Texts of the model are escaped.
"""

import json
import time
from collections.abc import Iterator
from html import escape

from modelops_dask.diagnose.result import Diagnosis, Pollution, TaskRef
from modelops_dask.report import html
from modelops_dask.shape import MIB
from mops_helm.diagnose.study_diagnosis import StudyDiagnosis
from mops_helm.forms import format_bytes
from mops_helm.render import diagnosis_text


def render_diagnosis_page(result: StudyDiagnosis, apply_command: str) -> str:
    """The whole text of the file. `apply_command` applies the values."""
    diagnosis = result.diagnosis
    body = [
        f"<h1>{escape(diagnosis.verdict)}</h1>",
        html.paragraph(f"{diagnosis.because[:1].upper()}{diagnosis.because[1:]}."),
        html.paragraph(f"{result.study.path}, {result.study.entrypoint}, bundle {result.bundle.digest}"),
        html.paragraph(f"As of {time.strftime('%Y-%m-%d %H:%M:%S %Z')}, seed {diagnosis.seed}"),
        _render_numbers(diagnosis),
        _render_evidence(diagnosis),
        _render_pollution(diagnosis.polluter) if diagnosis.polluter else "",
        _render_sources(diagnosis),
        _render_arms(diagnosis),
        _render_list("Not excluded", diagnosis.not_excluded),
        _render_use(diagnosis, apply_command),
        html.section(
            "Reasoning",
            "",
            f"<details><summary>How verdicts are reached</summary>{_render_reasoning()}</details>",
        ),
    ]
    return html.document(f"{result.study.name}: {diagnosis.verdict}", body)


def _render_numbers(diagnosis: Diagnosis) -> str:
    evidence = diagnosis.evidence
    cards = [("confidence", f"{diagnosis.confidence:.3g}", False)]
    if evidence.compared:
        share = f"{evidence.differing:,} of {evidence.compared:,}"
        cards.append(("results that differ", share, evidence.differing > 0))
    if evidence.seen:
        cards.append(("repeats that show it", evidence.seen, False))
    if diagnosis.needs_workaround and (preset := diagnosis.values.get("preset")):
        cards.append(("preset until it is fixed", preset, False))
    if diagnosis.memory:
        slope = diagnosis.memory.slope_bytes_per_task / MIB
        cards.append(("left behind per task", f"{slope:.2f} MiB", True))
    cards.append(("tasks, in orders", f"{diagnosis.tasks} in {diagnosis.orders}", False))
    cards.append(
        (
            f"of {html.format_duration(diagnosis.budget_seconds)}",
            html.format_duration(diagnosis.seconds),
            False,
        )
    )
    return html.numbers(cards)


def _render_evidence(diagnosis: Diagnosis) -> str:
    lines = [diagnosis_text.describe_evidence(diagnosis.evidence), *diagnosis.evidence.lines]
    if example := diagnosis.evidence.example:
        lines.insert(1, f"For example: {diagnosis_text.describe_example(example)}")
    return _render_list("Evidence", tuple(filter(None, lines)))


def _render_pollution(polluter: Pollution) -> str:
    rows = [_render_task("polluter", task) for task in polluter.tasks] + [
        _render_task("victim", polluter.victim)
    ]
    summary = "<summary>A script that reproduces it</summary>"
    script = f"<details>{summary}{_render_code(polluter.script)}</details>" if polluter.script else ""
    return html.section(
        "What pollutes",
        "When it runs after the polluter in the same process, the victim has a different result.",
        html.table(["", "task", "parameters", "n:seed"], rows)
        + _render_list("State it leaves behind", polluter.changed)
        + script,
    )


def _render_task(role: str, task: TaskRef) -> list[str]:
    params = json.dumps(task.params, ensure_ascii=False)
    return [html.cell(role), html.cell(task.task), html.cell(params), f"<td class=n>{task.seed}</td>"]


def _render_sources(diagnosis: Diagnosis) -> str:
    rows = [
        [
            html.cell(source.kind),
            html.cell(source.call),
            html.cell(f"{source.file}:{source.line}" if source.file else "outside the bundle"),
            html.cell("yes" if source.confirmed else "not shown"),
        ]
        for source in diagnosis.sources
    ]
    heads = ["kind", "call", "where", "runs agree without it"]
    return html.section("Sources of randomness", "", html.table(heads, rows) if rows else "")


def _render_arms(diagnosis: Diagnosis) -> str:
    rows = [
        [
            html.cell(arm.arm),
            html.cell(arm.state),
            f"<td class=n>{f'{arm.differing:,} of {arm.tasks:,}' if arm.tasks else ''}</td>",
            f"<td class=n>{arm.lanes or ''}</td>",
            f"<td class=n>{html.format_duration(arm.seconds) if arm.lanes else ''}</td>",
            f"<td class=n>{format_bytes(arm.peak_bytes) if arm.peak_bytes else ''}</td>",
            html.cell(arm.why),
        ]
        for arm in diagnosis.arms
    ]
    heads = ["arm", "state", "n:differ", "n:runs", "n:time", "n:peak", "why"]
    return html.section(
        "Arms", "The same tasks, run in ways that share less or more.", html.table(heads, rows)
    )


def _render_use(diagnosis: Diagnosis, apply_command: str) -> str:
    body = ""
    if diagnosis.needs_workaround:
        body = _render_code(diagnosis_text.render_values(diagnosis)) + _render_code(apply_command)
    return html.section("Use meanwhile", "", body)


def _render_reasoning() -> str:
    return f"<pre>{escape(diagnosis_text.render_reasoning('table'))}</pre>"


def _render_list(title: str, lines: tuple[str, ...]) -> str:
    return html.section(title, "", "".join(_render_items(lines)))


def _render_items(lines: tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield "<ul>"
        yield from (f"<li>{escape(line)}</li>" for line in lines)
        yield "</ul>"


def _render_code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
