"""The output of `study results` and `study try`: the outputs of a study, or of one task.

Tables, TaskTrial -> lines for people (`table`), or the same facts as JSON or YAML
"""

from typing import TYPE_CHECKING, Any

from modelops_dask.shape import MIB
from modelops_dask.store.output_names import show_name
from modelops_dask.store.results import Output, Tables
from modelops_dask.store.tables import as_table
from mops_helm.forms import OutputFormat, render_data, render_json_line, shorten_path
from mops_helm.render.study_plan import task_fields
from mops_helm.study.progress import format_duration
from mops_helm.study.task_trial import TaskTrial

if TYPE_CHECKING:
    import pyarrow as pa

PREVIEW_ROWS = 5
PREVIEW_COLUMNS = 8
CELL_CHARACTERS = 16


def render_task_trial(trial: TaskTrial, output: OutputFormat) -> str:
    """What one task returned, or why it failed."""
    task, outcome = trial.task, trial.outcome
    if output != "table":
        fields = {
            **task_fields(task),
            "status": outcome.status,
            "reason": outcome.reason,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "peak_bytes": outcome.peak_bytes,
            "limit_bytes": outcome.limit_bytes,
            "hint": trial.hint,
            "outputs": {name: len(blob) for name, blob in outcome.outputs.items()},
        }
        return render_data(fields, output)
    reason = f" ({outcome.reason})" if outcome.reason else ""
    peak = f", peak memory {outcome.peak_bytes / MIB:,.0f} MiB" if outcome.peak_bytes else ""
    limit = f", limit {outcome.limit_bytes / MIB:,.0f} MiB" if outcome.limit_bytes else ""
    lines = [
        f"Task {task.set}/{task.replicate}, seed {task.seed}, {render_json_line(task.params)}",
        f"{outcome.status}{reason} in {format_duration(outcome.seconds)}{peak}{limit}",
    ]
    if outcome.error:
        lines.append(outcome.error.rstrip())
    if trial.hint:
        lines.append(trial.hint)
    for name, blob in outcome.outputs.items():
        table = as_table(blob)
        rows = f", {_count(table.num_rows, 'row')}" if table is not None else ""
        lines.append(f"\n{name}: {len(blob):,} bytes{rows}")
        if table is not None:
            lines.append(render_preview(table))
    return "\n".join(lines)


def render_results(tables: Tables, name: str | None, output: OutputFormat) -> str:
    """Every output, or the named one; for people with the first rows. Raises NoOutput.

    Tables of an earlier request are removed afterwards, so their files are not named.
    """
    tables_by_name = tables.outputs if name is None else {name: tables.output(name)}
    if output != "table":
        fields = [
            {
                "name": name,
                "file": table.where if tables.last else None,
                "rows": table.n_rows,
                "columns": table.schema.names,
            }
            for name, table in tables_by_name.items()
        ]
        return render_data(fields, output)
    return "\n\n".join(
        f"{_describe_table(name, table, tables.last)}\n{render_preview(table.head(PREVIEW_ROWS))}"
        for name, table in tables_by_name.items()
    )


def _describe_table(name: str, table: Output, has_file: bool) -> str:
    place = f" in {shorten_path(table.where)}" if has_file else ""
    return f"{show_name(name)}: {_count(table.n_rows, 'row')}{place}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def render_preview(table: "pa.Table") -> str:
    """The first rows and columns of an Arrow table, aligned."""
    preview = table.slice(0, PREVIEW_ROWS).select(table.column_names[:PREVIEW_COLUMNS])
    columns = [[name, *map(_render_cell, preview[name].to_pylist())] for name in preview.column_names]
    widths = [max(map(len, column)) for column in columns]
    rows = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]
    n_hidden = table.num_columns - preview.num_columns
    return "\n".join(f"  {row}" for row in rows) + (
        f"\n  and {_count(n_hidden, 'more column')}" if n_hidden else ""
    )


def _render_cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value)
    return text if len(text) <= CELL_CHARACTERS else f"{text[:12]}..."
