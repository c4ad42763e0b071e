"""The page of a report: numbers first, then figures, failures, configuration.

Measurement, Maps, Figures -> texts -> templates/report.html -> HTML
"""

import shlex
import time

from markupsafe import Markup

from modelops_dask.report import html
from modelops_dask.report.figures import Figures
from modelops_dask.report.measurement import Measurement
from modelops_dask.report.space import Maps
from modelops_dask.shape import MIB
from modelops_dask.store.checks import describe
from modelops_dask.store.conditions import describe_differences
from modelops_dask.store.separation import find_separation

FIGURES = ("throughput", "durations", "memory", "space")
SHOWN_REASONS = 50
ERROR_CHARACTERS = 20_000  # of a traceback, its end


def render_page(measurement: Measurement, maps: Maps, figures: Figures) -> str:
    """The whole text of the file."""
    title = measurement.location.rstrip("/").rpartition("/")[2] or measurement.location
    n_more = len(measurement.reasons) - SHOWN_REASONS
    return html.render_template(
        html.TEMPLATES / "report.html",
        page_title=f"{title}: study report",
        head=Markup(figures.head),
        script=Markup(figures.script),
        title=title,
        entrypoint=measurement.plan.entrypoint,
        origin=f"{measurement.location}, bundle {measurement.study.bundle}",
        time=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        cards=_list_numbers(measurement),
        was_run=measurement.attempts > 0,
        figures={name: Markup(figures.elements.get(name, "")) for name in FIGURES},
        pauses=_describe_pauses(measurement),
        duration="" if measurement.seconds.total else "No task ended ok.",
        memory=_describe_memory(measurement),
        space=_describe_space(maps),
        reasons=_list_reasons(measurement),
        more_reasons=f"and {n_more:,} more reasons" if n_more > 0 else "",
        configurations=_list_configurations(measurement),
        limits=_describe_limits(measurement) or "none",
        notes=_list_notes(measurement),
    )


def _list_numbers(measurement: Measurement) -> list[tuple[str, str, bool]]:
    """Cards: name, value, whether it is bad."""
    counts, seconds = measurement.state.counts(), measurement.seconds
    active = measurement.timeline.active_seconds
    limit = max(measurement.limits, default=0)
    peak = max(measurement.peaks_ok.largest, measurement.peaks_not_ok.largest)
    cards = [("tasks", f"{measurement.plan.n_tasks:,}", False)]
    cards += [
        (state, f"{count:,}", state in ("failed", "poisoned"))
        for state, count in counts.items()
        if count or state == "ok"
    ]
    if measurement.retried:
        cards.append(("tried more than once", f"{measurement.retried:,}", False))
    if measurement.attempts:
        rate = measurement.attempts / max(active, 0.1)
        cards.append(("attempts per second", f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}", False))
        cards.append(("running time", html.format_duration(active), False))
    if seconds.total:
        cards.append(("median time of a task", html.format_duration(seconds.quantile(0.5)), False))
        cards.append(("95% of tasks take at most", html.format_duration(seconds.quantile(0.95)), False))
    if peak:
        limit_text = f" (limit {limit / MIB:,.0f} MiB)" if limit else ""
        cards.append((f"peak memory{limit_text}", f"{peak / MIB:,.0f} MiB", 0 < limit < peak))
    return cards


def _describe_pauses(measurement: Measurement) -> str:
    if len(measurement.timeline.spans) < 2:
        return ""
    pauses = [html.format_duration(length) for _, length in measurement.timeline.compute_bins().pauses]
    return (
        f"Dashed: pauses, which are left out ({', '.join(pauses[:10])}{', …' if len(pauses) > 10 else ''})."
    )


def _describe_memory(measurement: Measurement) -> str:
    unknown = measurement.peaks_ok.unknown + measurement.peaks_not_ok.unknown
    sentences = [f"Thick line: the limit, {limits}."] if (limits := _describe_limits(measurement)) else []
    if unknown:
        sentences.append(f"For {unknown:,} attempts, no configuration was recorded.")
    return " ".join(sentences)


def _describe_limits(measurement: Measurement) -> str:
    """The limits as text; "" if there are none."""
    texts = [f"{limit / MIB:,.0f} MiB" for limit in measurement.main_limits]
    return ", for some up to ".join([f"{texts[0]} a task", *texts[1:]]) if texts else ""


def _describe_space(maps: Maps) -> str:
    sentences = []
    if not maps.axes:
        return ""
    if maps.set_stride > 1:
        sentences.append(f"One of {maps.set_stride:,} parameter sets is shown.")
    if maps.left_out:
        sentences.append(f"{maps.left_out} more parameters were swept.")
    return " ".join(sentences)


def _list_reasons(measurement: Measurement) -> list[dict[str, str]]:
    """The reasons of most attempts, each with its first task and the command that tries it."""
    reasons = sorted(measurement.reasons.items(), key=lambda item: (-item[1].attempts, item[0]))
    location = shlex.quote(measurement.location)
    rows = []
    for (status, name), reason in reasons[:SHOWN_REASONS]:
        task = f"{reason.set}/{reason.replicate}"
        rows.append(
            {
                "attempts": f"{reason.attempts:,}",
                "status": status,
                "name": name or "no reason",
                "task": task,
                "command": f"mops-helm study try {location} --task {task}",
                "error": reason.error.rstrip()[-ERROR_CHARACTERS:],
            }
        )
    return rows


def _list_configurations(measurement: Measurement) -> list[list[str]]:
    return [
        [
            f"{count:,}",
            c.executor,
            c.preset or "not named",
            str(c.threads or "not fixed"),
            c.environment or "not known",
        ]
        for c, count in measurement.configurations.most_common(SHOWN_REASONS)
    ]


def _list_notes(measurement: Measurement) -> list[str]:
    state = measurement.state
    notes = [f"parts/{name} was skipped: {reason}" for name, reason in list(state.skipped.items())[:20]]
    if state.conflicts:
        tasks_text = ", ".join(f"{s}/{r}" for s, r in state.conflicts[:10])
        notes.append(f"{len(state.conflicts):,} tasks have two different results, such as {tasks_text}.")
    if measurement.self_check:
        notes += describe(measurement.self_check)
    notes += measurement.fallback_notes
    notes += [str(separation) for separation in find_separation(measurement.plan, state.codes)]
    if mixed := describe_differences(state.conditions):
        notes.append(mixed)
    notes += measurement.variation_notes
    return notes
