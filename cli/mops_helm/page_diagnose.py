"""The page of a diagnosis: verdict, evidence, what pollutes, every arm, the reasoning, the values.

Diagnosis -> HTML, one file that needs no network

Texts of the model go through html.cell, html.soft or escape.
"""

import json
import time
from collections.abc import Iterator
from html import escape

from modelops_dask.diagnose.result import Diagnosis, Pollution, TaskRef
from modelops_dask.report import html
from mops_helm import render_diagnose
from mops_helm.diagnosing import Experiment
from mops_helm.render import size


def page(done: Experiment, apply: str) -> str:
    """The whole text of the file. `apply` is the command that applies the values."""
    found = done.found
    body = [
        f"<h1>{escape(found.verdict)}</h1>",
        html.soft(f"{found.because[:1].upper()}{found.because[1:]}."),
        html.soft(f"{done.study.path}, {done.study.entrypoint}, bundle {done.bundle.digest}"),
        html.soft(f"As of {time.strftime('%Y-%m-%d %H:%M:%S %Z')}, seed {found.seed}"),
        _numbers(found),
        _evidence(found),
        _pollution(found.polluter) if found.polluter else "",
        _sources(found),
        _arms(found),
        _list("Not excluded", found.not_excluded),
        _use(found, apply),
        html.section(
            "Reasoning", "", f"<details><summary>How verdicts are reached</summary>{_reasoning()}</details>"
        ),
    ]
    return html.document(f"{done.study.name}: {found.verdict}", body)


def _numbers(found: Diagnosis) -> str:
    evidence = found.evidence
    cards = [("confidence", f"{found.confidence:.3g}", False)]
    if evidence.compared:
        share = f"{evidence.differing:,} of {evidence.compared:,}"
        cards.append(("results that differ", share, evidence.differing > 0))
    if evidence.seen:
        cards.append(("repeats that show it", evidence.seen, False))
    if found.to_mend and (preset := found.values.get("preset")):
        cards.append(("preset meanwhile", preset, False))
    if found.memory:
        slope = found.memory.slope_bytes_per_task / render_diagnose.MIB
        cards.append(("a task leaves behind", f"{slope:.2f} MiB", True))
    cards.append(("tasks, in orders", f"{found.tasks} in {found.orders}", False))
    cards.append((f"of {html.duration(found.budget_seconds)}", html.duration(found.seconds), False))
    return html.numbers(cards)


def _evidence(found: Diagnosis) -> str:
    lines = [render_diagnose.evidence_words(found.evidence), *found.evidence.lines]
    if example := found.evidence.example:
        lines.insert(1, f"For example: {render_diagnose.example_words(example)}")
    return _list("Evidence", tuple(filter(None, lines)))


def _pollution(polluter: Pollution) -> str:
    rows = [_task("polluter", task) for task in polluter.tasks] + [_task("victim", polluter.victim)]
    summary = "<summary>A script that reproduces it</summary>"
    script = f"<details>{summary}{_code(polluter.script)}</details>" if polluter.script else ""
    return html.section(
        "What pollutes",
        "After the polluter, in the same process, the victim has another result.",
        html.table(["", "task", "parameters", "n:seed"], rows)
        + _list("What it leaves behind", polluter.changed)
        + script,
    )


def _task(role: str, task: TaskRef) -> list[str]:
    params = json.dumps(task.params, ensure_ascii=False)
    return [html.cell(role), html.cell(task.task), html.cell(params), f"<td class=n>{task.seed}</td>"]


def _sources(found: Diagnosis) -> str:
    rows = [
        [
            html.cell(source.kind),
            html.cell(source.call),
            html.cell(f"{source.file}:{source.line}" if source.file else "outside the bundle"),
            html.cell("yes" if source.confirmed else "not shown"),
        ]
        for source in found.sources
    ]
    heads = ["kind", "call", "where", "runs agree without it"]
    return html.section("Where chance comes from", "", html.table(heads, rows) if rows else "")


def _arms(found: Diagnosis) -> str:
    rows = [
        [
            html.cell(arm.arm),
            html.cell(arm.state),
            f"<td class=n>{f'{arm.differing:,} of {arm.tasks:,}' if arm.tasks else ''}</td>",
            f"<td class=n>{arm.lanes or ''}</td>",
            f"<td class=n>{html.duration(arm.seconds) if arm.lanes else ''}</td>",
            f"<td class=n>{size(arm.peak_bytes) if arm.peak_bytes else ''}</td>",
            html.cell(arm.why),
        ]
        for arm in found.arms
    ]
    heads = ["arm", "state", "n:differ", "n:runs", "n:time", "n:peak", "why"]
    return html.section(
        "Arms", "The same tasks, run in ways that share less or more.", html.table(heads, rows)
    )


def _use(found: Diagnosis, apply: str) -> str:
    shown = _code(render_diagnose.values(found)) + _code(apply) if found.to_mend else ""
    return html.section("Use meanwhile", "", shown)


def _reasoning() -> str:
    return f"<pre>{escape(render_diagnose.reasoning('table'))}</pre>"


def _list(title: str, lines: tuple[str, ...]) -> str:
    return html.section(title, "", "".join(_items(lines)))


def _items(lines: tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield "<ul>"
        yield from (f"<li>{escape(line)}</li>" for line in lines)
        yield "</ul>"


def _code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
