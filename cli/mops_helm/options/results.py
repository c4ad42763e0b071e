"""The options of `study results`, and what they ask for together.

--table, -o, --to, old spellings -> parse_view -> ResultsView -> resolve_view, with the tables of the store

Old spellings keep working: --output NAME is --table NAME, and --to csv is -o csv.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import click

from mops_helm.forms import OutputFormat
from mops_helm.options.old_spellings import print_new_spelling
from mops_helm.output_file import OutputFile

TableFormat = Literal["csv", "parquet"]
ResultsFormat = OutputFormat | TableFormat
LIST_FORMATS, TABLE_FORMATS = get_args(OutputFormat), get_args(TableFormat)
FORMATS = (*LIST_FORMATS, *TABLE_FORMATS)


@dataclass(frozen=True)
class ResultsView:
    """What `study results` prints or writes.

    Args:
        table: One table by name; None for all.
        list_format: Of the list of tables and their first rows.
        table_format: Of one whole table; None for the list.
        path: File for the whole table; None for standard output.
        table_or_format: An old --output whose word may be either; only the store's tables tell.
    """

    table: str | None = None
    list_format: OutputFormat = "table"
    table_format: TableFormat | None = None
    path: Path | None = None
    table_or_format: str = ""


class _OutputOption(click.Option):
    """-o in the help as -o, --output; the long one is an option of its own because of its old meaning."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (record[0].replace("-o ", "-o, --output ", 1), record[1])


class _TableFile(OutputFile):
    """A file to write; the words csv and parquet alone are the old spelling of a format."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value in TABLE_FORMATS else super().convert(value, param, ctx)


table = click.option("--table", "name", metavar="NAME", help="One table, such as replicates.")
output = click.option(
    "-o",
    "output",
    cls=_OutputOption,
    type=click.Choice(FORMATS),
    help="Format: of the list, or csv or parquet for one whole table.  [default: table]",
)
output_or_table = click.option("--output", "output_or_table", hidden=True, help="Old spelling of --table.")
to = click.option(
    "--to",
    metavar="FILE",
    type=_TableFile(),
    help="Write one whole table to FILE.csv or FILE.parquet; for other names add -o csv or parquet.",
)


def parse_view(
    name: str | None,
    output: ResultsFormat | None,
    output_or_table: str | None,
    to: Path | TableFormat | None,
) -> ResultsView:
    """What the options ask for.

    Raises:
        click.UsageError: They contradict each other.
    """
    form: str | None = output
    old_table = ""
    if name is not None and output and output_or_table in FORMATS and output != output_or_table:
        raise click.UsageError(f"-o {output} and --output {output_or_table} contradict each other")
    if output_or_table is not None:
        if name is not None and output_or_table not in FORMATS:
            raise click.UsageError(f"--output {output_or_table} is not one of {', '.join(FORMATS)}")
        if name is not None:
            form = output_or_table
        elif output or to or output_or_table not in FORMATS:
            name = _take_for_table(output_or_table)
        else:
            old_table = output_or_table
    path, form = _parse_file(to, form)
    view = ResultsView(name, path=path, table_or_format=old_table)
    return _with_format(view, form or "table")


def _parse_file(to: Path | TableFormat | None, form: str | None) -> tuple[Path | None, str | None]:
    """The file to write, and its format."""
    if to is None:
        return None, form
    if isinstance(to, str):
        if form in TABLE_FORMATS and form != to:
            raise click.UsageError(f"-o {form} and --to {to} contradict each other; a file is --to ./{to}")
        print_new_spelling(f"--to {to}", f"-o {to} (a file named {to} is --to ./{to})")
        return None, to
    suffix = to.suffix.removeprefix(".").lower()
    if suffix in TABLE_FORMATS and form in TABLE_FORMATS and suffix != form:
        raise click.UsageError(
            f"--to {to} and -o {form} contradict each other: name the file {to.stem}.{form}"
        )
    form = form or suffix or to.name
    if form not in TABLE_FORMATS:
        raise click.UsageError(
            f"--to {to}: name a file FILE.csv or FILE.parquet, or add -o csv or -o parquet"
        )
    return to, form


def _with_format(view: ResultsView, form: str) -> ResultsView:
    if form in TABLE_FORMATS:
        return replace(view, table_format=cast(TableFormat, form))
    return replace(view, list_format=cast(OutputFormat, form))


def _take_for_table(word: str) -> str:
    print_new_spelling(f"--output {word}", f"--table {word}")
    return word


def resolve_view(view: ResultsView, table_names: Collection[str]) -> ResultsView:
    """The view of a store with these tables, which tell what an old --output means."""
    if not (word := view.table_or_format):
        return view
    if word in table_names:
        return replace(view, table=_take_for_table(word), table_or_format="")
    return replace(_with_format(view, word), table_or_format="")


def format_view(view: ResultsView) -> list[str]:
    """The options for `study results` in a pod, which writes to standard output."""
    if view.table_or_format:
        return ["--output", view.table_or_format]
    table_words = [] if view.table is None else ["--table", view.table]
    return [*table_words, "-o", view.table_format or view.list_format]
