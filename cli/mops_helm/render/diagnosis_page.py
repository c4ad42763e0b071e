"""The page of a diagnosis: verdict, evidence, polluters, every arm, the reasoning, the values.

Diagnosis -> texts -> diagnosis.html -> HTML, one file that needs no network
"""

import json
import time
from pathlib import Path

from modelops_dask.diagnose.result import Diagnosis, Pollution
from modelops_dask.report.html import format_duration, render_template
from modelops_dask.shape import MIB
from mops_helm.diagnose.study_diagnosis import StudyDiagnosis
from mops_helm.forms import format_bytes
from mops_helm.render import diagnosis_text

TEMPLATE = Path(__file__).with_name("diagnosis.html")


def render_diagnosis_page(result: StudyDiagnosis, apply_command: str) -> str:
    """The whole text of the file. `apply_command` applies the values."""
    diagnosis = result.diagnosis
    return render_template(
        TEMPLATE,
        page_title=f"{result.study.name}: {diagnosis.verdict}",
        head="",
        script="",
        diagnosis=diagnosis,
        because=f"{diagnosis.because[:1].upper()}{diagnosis.because[1:]}.",
        origin=f"{result.study.path}, {result.study.entrypoint}, bundle {result.bundle.digest}",
        time=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        cards=_list_numbers(diagnosis),
        evidence=_list_evidence(diagnosis),
        polluters=_list_polluters(diagnosis.polluter) if diagnosis.polluter else [],
        sources=_list_sources(diagnosis),
        arms=_list_arms(diagnosis),
        values=diagnosis_text.render_values(diagnosis) if diagnosis.needs_workaround else "",
        apply_command=apply_command,
        reasoning=diagnosis_text.render_reasoning("table"),
    )


def _list_numbers(diagnosis: Diagnosis) -> list[tuple[str, str, bool]]:
    """Cards: name, value, whether it is bad."""
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
            f"of {format_duration(diagnosis.budget_seconds)}",
            format_duration(diagnosis.seconds),
            False,
        )
    )
    return cards


def _list_evidence(diagnosis: Diagnosis) -> list[str]:
    lines = [diagnosis_text.describe_evidence(diagnosis.evidence), *diagnosis.evidence.lines]
    if example := diagnosis.evidence.example:
        lines.insert(1, f"For example: {diagnosis_text.describe_example(example)}")
    return list(filter(None, lines))


def _list_polluters(polluter: Pollution) -> list[list[str]]:
    """Rows: role, task, parameters, seed."""
    tasks = [*(("polluter", task) for task in polluter.tasks), ("victim", polluter.victim)]
    return [
        [role, task.task, json.dumps(task.params, ensure_ascii=False), str(task.seed)] for role, task in tasks
    ]


def _list_sources(diagnosis: Diagnosis) -> list[list[str]]:
    """Rows: kind, call, file and line, whether runs agree without it."""
    return [
        [
            source.kind,
            source.call,
            f"{source.file}:{source.line}" if source.file else "outside the bundle",
            "yes" if source.confirmed else "not shown",
        ]
        for source in diagnosis.sources
    ]


def _list_arms(diagnosis: Diagnosis) -> list[list[str]]:
    """Rows: arm, state, tasks that differ, runs, time, peak, why."""
    return [
        [
            arm.arm,
            arm.state,
            f"{arm.differing:,} of {arm.tasks:,}" if arm.tasks else "",
            str(arm.lanes or ""),
            format_duration(arm.seconds) if arm.lanes else "",
            format_bytes(arm.peak_bytes) if arm.peak_bytes else "",
            arm.why,
        ]
        for arm in diagnosis.arms
    ]
