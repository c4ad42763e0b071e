"""The page of a report: numbers first, then figures, failures, configuration.

Measurement, Maps, Figures -> HTML

Every text goes through html.escape, for tracebacks, names and reasons come from models.
"""

import shlex
import time
from html import escape

from modelops_dask.report import html
from modelops_dask.report.figures import Figures
from modelops_dask.report.measurement import Measurement
from modelops_dask.report.space import Maps
from modelops_dask.shape import MIB
from modelops_dask.store.checks import describe
from modelops_dask.store.conditions import describe_differences
from modelops_dask.store.separation import find_separation

SHOWN_REASONS = 50
ERROR_CHARACTERS = 20_000  # of a traceback, its end


def render_page(measurement: Measurement, maps: Maps, figures: Figures) -> str:
    """The whole text of the file."""
    elements = figures.elements
    title = measurement.location.rstrip("/").rpartition("/")[2] or measurement.location
    body = [
        f"<h1>{escape(title)}</h1>",
        html.paragraph(measurement.plan.entrypoint),
        html.paragraph(f"{measurement.location}, bundle {measurement.study.bundle}"),
        html.paragraph(f"As of {time.strftime('%Y-%m-%d %H:%M:%S %Z')}"),
        _render_numbers(measurement),
        *([] if measurement.attempts else [html.paragraph("No task has run yet.")]),
        html.section("Throughput", _describe_pauses(measurement), elements.get("throughput")),
        '<div class="pair">',
        html.section(
            "Duration",
            "" if measurement.seconds.total else "No task ended ok.",
            elements.get("durations"),
        ),
        html.section("Memory", _describe_memory(measurement), elements.get("memory")),
        "</div>",
        html.section("Outcome over the parameter space", _describe_space(maps), elements.get("space")),
        _render_failures(measurement),
        _render_configurations(measurement),
        _render_notes(measurement),
    ]
    return html.document(f"{title}: study report", body, figures.head, figures.script)


def _render_numbers(measurement: Measurement) -> str:
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
        cards.append(("attempts a second", f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}", False))
        cards.append(("time in which tasks ran", html.format_duration(active), False))
    if seconds.total:
        cards.append(("median of a task", html.format_duration(seconds.quantile(0.5)), False))
        cards.append(("95% take at most", html.format_duration(seconds.quantile(0.95)), False))
    if peak:
        limit_text = f" of {limit / MIB:,.0f}" if limit else ""
        cards.append((f"largest peak{limit_text} MiB", f"{peak / MIB:,.0f} MiB", 0 < limit < peak))
    return html.numbers(cards)


def _describe_pauses(measurement: Measurement) -> str:
    if len(measurement.timeline.spans) < 2:
        return ""
    pauses = [html.format_duration(length) for _, length in measurement.timeline.compute_bins().pauses]
    return (
        f"Dashed: pauses, which are left out ({', '.join(pauses[:10])}{', …' if len(pauses) > 10 else ''})."
    )


def _describe_memory(measurement: Measurement) -> str:
    unknown = measurement.peaks_ok.unknown + measurement.peaks_not_ok.unknown
    sentences = [f"Thick: the limit, {limits}."] if (limits := _describe_limits(measurement)) else []
    if unknown:
        sentences.append(f"Of {unknown:,} attempts, no configuration was recorded.")
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


def _render_failures(measurement: Measurement) -> str:
    if not measurement.reasons:
        return ""
    reasons = sorted(measurement.reasons.items(), key=lambda item: (-item[1].attempts, item[0]))
    location = shlex.quote(measurement.location)
    rows = []
    for (status, name), reason in reasons[:SHOWN_REASONS]:
        task = f"{reason.set}/{reason.replicate}"
        cell_html = f"<code>mops-helm study try {escape(location)} --task {task}</code>"
        if error := reason.error.rstrip()[-ERROR_CHARACTERS:]:
            summary = f"<summary>first: task {task}</summary>"
            cell_html = f"<details>{summary}{cell_html}<pre>{escape(error)}</pre></details>"
        rows.append(
            [
                f"<td class=n>{reason.attempts:,}</td>",
                html.cell(status),
                html.cell(name or "no reason"),
                f"<td>{cell_html}</td>",
            ]
        )
    n_more = len(reasons) - SHOWN_REASONS
    note = html.paragraph("Attempts, of which some were tried again and ended ok.")
    return (
        f"<section><h2>Failures by reason</h2>{note}"
        + html.table(["n:attempts", "status", "reason", "the first of them"], rows)
        + (html.paragraph(f"and {n_more:,} more reasons") if n_more > 0 else "")
        + "</section>"
    )


def _render_configurations(measurement: Measurement) -> str:
    if not measurement.configurations:
        return ""
    rows = [
        [
            f"<td class=n>{count:,}</td>",
            html.cell(c.executor),
            html.cell(c.preset or "not named"),
            f"<td class=n>{c.threads or 'not fixed'}</td>",
            html.cell(c.environment or "not known"),
        ]
        for c, count in measurement.configurations.most_common(SHOWN_REASONS)
    ]
    heads = ["n:attempts", "executor", "preset", "n:native threads", "environment"]
    note = f"As recorded with each attempt. Limit of memory: {_describe_limits(measurement) or 'none'}."
    return (
        f"<section><h2>Configuration in effect</h2>{html.paragraph(note)}{html.table(heads, rows)}</section>"
    )


def _render_notes(measurement: Measurement) -> str:
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
    if not notes:
        return ""
    return "<section><h2>Notes</h2>" + "".join(html.paragraph(note) for note in notes) + "</section>"
