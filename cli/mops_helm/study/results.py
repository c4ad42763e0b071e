"""The results of a study, listed or written completely.

store -> results/ (built if missing or old) -> Outputs by name -> a list, or CSV or Parquet

A table is written one batch at a time, because it may be larger than memory.
"""

from typing import TYPE_CHECKING, BinaryIO, TextIO

from modelops_dask.errors import BadInput

if TYPE_CHECKING:
    from modelops_dask.store.results import Tables

EARLIER = (
    "These are the tables of an earlier request, built for this command; results/ of the store has those of "
    "the last one. To keep one: --table NAME --to NAME.csv"
)


def describe_missing_tasks(tables: "Tables") -> str:
    """A line about tasks whose outputs are not in the tables; "" if there are none."""
    missing = {state: count for state, count in tables.tasks.items() if count and state != "ok"}
    if not missing:
        return ""
    counts = ", ".join(f"{count:,} {state}" for state, count in missing.items())
    share = f"{sum(missing.values()):,} of {sum(tables.tasks.values()):,} tasks"
    line = f"{share} have no outputs in these tables: {counts}"
    if tables.redo_pending:
        line += (
            f". {tables.redo_pending:,} of them have to run again (study run --redo): their older results "
            "do not count. `mops-helm study run` continues"
        )
    return line


def refuse_terminal(stream: TextIO) -> None:
    """Refuse to write Parquet to a terminal. Raises BadInput."""
    if stream.isatty():
        raise BadInput("Parquet cannot be shown on a terminal: add --to FILE.parquet")


def write_output(tables: "Tables", name: str | None, file_format: str, stream: BinaryIO) -> None:
    """One output as CSV or Parquet bytes. Raises NoOutput if there are several and none is named."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    table = tables.output(name)
    schema = table.schema
    if file_format == "csv" and (
        nested := [field.name for field in schema if pa.types.is_nested(field.type)]
    ):
        raise BadInput(
            f"column {nested[0]} holds {schema.field(nested[0]).type}, which CSV cannot hold; use -o parquet"
        )
    with (
        csv.CSVWriter(stream, schema) if file_format == "csv" else pq.ParquetWriter(stream, schema) as writer
    ):
        for batch in table.batches():
            writer.write_batch(batch)
