"""The page of a report: numbers first, then figures, failures, configuration.

Measured, Maps, Figures -> HTML

Every text goes through html.escape, for tracebacks, names and reasons come from models.
"""

import shlex
import time
from html import escape

from modelops_dask.report import html
from modelops_dask.report.figures import Figures
from modelops_dask.report.measure import Measured
from modelops_dask.report.space import MIB, Maps

SHOWN_REASONS = 50
ERROR_CHARACTERS = 20_000  # of a traceback, its end


def page(measured: Measured, maps: Maps, figures: Figures) -> str:
    """The whole text of the file."""
    title = measured.where.rstrip("/").rpartition("/")[2] or measured.where
    body = [
        f"<h1>{escape(title)}</h1>",
        html.soft(measured.plan.entrypoint),
        html.soft(f"{measured.where}, bundle {measured.study.bundle}"),
        html.soft(f"As of {time.strftime('%Y-%m-%d %H:%M:%S %Z')}"),
        _numbers(measured),
        *([] if measured.attempts else [html.soft("Nothing was run yet.")]),
        html.section("Throughput", _pauses(measured), figures.places.get("throughput")),
        '<div class="pair">',
        html.section(
            "Duration", "" if measured.seconds.total else "No task ended ok.", figures.places.get("durations")
        ),
        html.section("Memory", _memory(measured), figures.places.get("memory")),
        "</div>",
        html.section("Outcome over the parameter space", _space_notes(maps), figures.places.get("space")),
        _failures(measured),
        _configurations(measured),
        _notes(measured),
    ]
    return html.document(f"{title}: study report", body, figures.head, figures.script)


def _numbers(measured: Measured) -> str:
    counts, seconds = measured.state.counts(), measured.seconds
    active = measured.timeline.active_seconds
    limit = max(measured.limits, default=0)
    peak = max(measured.peaks_ok.largest, measured.peaks_not_ok.largest)
    cards = [("tasks", f"{measured.plan.n_tasks:,}", False)]
    cards += [
        (state, f"{count:,}", state in ("failed", "poisoned"))
        for state, count in counts.items()
        if count or state == "ok"
    ]
    if measured.retried:
        cards.append(("tried more than once", f"{measured.retried:,}", False))
    if measured.attempts:
        rate = measured.attempts / max(active, 0.1)
        cards.append(("attempts a second", f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}", False))
        cards.append(("time in which tasks ran", html.duration(active), False))
    if seconds.total:
        cards.append(("median of a task", html.duration(seconds.quantile(0.5)), False))
        cards.append(("95% take at most", html.duration(seconds.quantile(0.95)), False))
    if peak:
        of = f" of {limit / MIB:,.0f}" if limit else ""
        cards.append((f"largest peak{of} MiB", f"{peak / MIB:,.0f} MiB", 0 < limit < peak))
    return html.numbers(cards)


def _pauses(measured: Measured) -> str:
    if len(measured.timeline.spans) < 2:
        return ""
    pauses = [html.duration(length) for _, length in measured.timeline.bins().pauses]
    return f"Dashed: pauses, which are cut out ({', '.join(pauses[:10])}{', …' if len(pauses) > 10 else ''})."


def _memory(measured: Measured) -> str:
    unknown = measured.peaks_ok.unknown + measured.peaks_not_ok.unknown
    words = [f"Thick: the limit, {limits}."] if (limits := _limits(measured)) else []
    if unknown:
        words.append(f"Of {unknown:,} attempts nothing is known.")
    return " ".join(words)


def _limits(measured: Measured) -> str:
    """In words; "" when there is none."""
    shown = [f"{limit / MIB:,.0f} MiB" for limit in measured.shown_limits]
    return ", for some up to ".join([f"{shown[0]} a task", *shown[1:]]) if shown else ""


def _space_notes(maps: Maps) -> str:
    words = []
    if not maps.axes:
        return ""
    if maps.every > 1:
        words.append(f"One of {maps.every:,} parameter sets is shown.")
    if maps.left_out:
        words.append(f"{maps.left_out} more parameters were swept.")
    return " ".join(words)


def _failures(measured: Measured) -> str:
    if not measured.reasons:
        return ""
    reasons = sorted(measured.reasons.items(), key=lambda item: (-item[1].attempts, item[0]))
    where = shlex.quote(measured.where)
    rows = []
    for (status, name), reason in reasons[:SHOWN_REASONS]:
        task = f"{reason.set}/{reason.replicate}"
        shown = f"<code>mops-helm study try {escape(where)} --task {task}</code>"
        if error := reason.error.rstrip()[-ERROR_CHARACTERS:]:
            shown = (
                f"<details><summary>first: task {task}</summary>{shown}<pre>{escape(error)}</pre></details>"
            )
        rows.append(
            [
                f"<td class=n>{reason.attempts:,}</td>",
                html.cell(status),
                html.cell(name or "no reason"),
                f"<td>{shown}</td>",
            ]
        )
    more = len(reasons) - SHOWN_REASONS
    note = html.soft("Attempts, of which some were tried again and ended ok.")
    return (
        f"<section><h2>Failures by reason</h2>{note}"
        + html.table(["n:attempts", "status", "reason", "the first of them"], rows)
        + (html.soft(f"and {more:,} more reasons") if more > 0 else "")
        + "</section>"
    )


def _configurations(measured: Measured) -> str:
    if not measured.configurations:
        return ""
    rows = [
        [
            f"<td class=n>{count:,}</td>",
            html.cell(c.executor),
            html.cell(c.preset or "none named"),
            f"<td class=n>{c.threads or 'not fixed'}</td>",
            html.cell(c.environment or "not known"),
        ]
        for c, count in measured.configurations.most_common(SHOWN_REASONS)
    ]
    heads = ["n:attempts", "executor", "preset", "n:native threads", "environment"]
    note = f"As recorded with each attempt. Limit of memory: {_limits(measured) or 'none'}."
    return f"<section><h2>Configuration in effect</h2>{html.soft(note)}{html.table(heads, rows)}</section>"


def _notes(measured: Measured) -> str:
    state = measured.state
    notes = [f"parts/{name} was passed over: {why}" for name, why in list(state.skipped.items())[:20]]
    if state.conflicts:
        shown = ", ".join(f"{s}/{r}" for s, r in state.conflicts[:10])
        notes.append(f"{len(state.conflicts):,} tasks have two results that differ, such as {shown}.")
    if not notes:
        return ""
    return "<section><h2>Notes</h2>" + "".join(html.soft(note) for note in notes) + "</section>"
