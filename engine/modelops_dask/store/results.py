"""Read the results of a study in Python.

    from modelops_dask.store.results import results
    results("out/sir", "curve").to_pandas().groupby(["param_beta", "day"]).infected.median()

Does not write but for results/ itself, which it builds when it is missing or older than what the store holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.errors import BadInput
from modelops_dask.store.compact import FOLDER, current, output_name, pieces, tables_folder
from modelops_dask.store.files import Files
from modelops_dask.store.study import existing

REPLICATES = "replicates"


class NoOutput(BadInput):
    """The study has no output of that name, or several and none was named."""

    def __init__(self, where: str, asked: str | None, known: list[str]) -> None:
        self.where, self.asked, self.known = where, asked, known
        super().__init__(where, asked, known)

    def __str__(self) -> str:
        known = ", ".join(self.known)
        if self.asked is None:
            return f"{self.where} has {len(self.known)} outputs; name one of {known}"
        near = get_close_matches(self.asked, self.known, 1)
        hint = f"did you mean {near[0]}?" if near else f"it has {known}"
        return f"{self.where} has no output {self.asked}; {hint}"


@dataclass(frozen=True)
class Output:
    """One table of results/, which may be larger than memory. `where` is what other programs open: a Parquet
    file, or a folder of them.
    """

    files: Files
    where: str
    pieces: tuple[str, ...]

    @property
    def n_rows(self) -> int:
        return sum(file.metadata.num_rows for file in self._opened())

    @property
    def schema(self) -> pa.Schema:
        return next(self._opened()).schema_arrow

    def batches(self, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """The table in batches of at most so many rows, in the order of the tasks."""
        for file in self._opened():
            yield from file.iter_batches(rows, use_threads=False)

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        first = next(self.batches(rows), None)
        return pa.Table.from_batches([] if first is None else [first], self.schema)

    def table(self) -> pa.Table:
        """All of it, in memory."""
        # Arrow's threads may outlive the read and abort a process that ends at once: 16 of 40 times.
        return pa.concat_tables([file.read(use_threads=False) for file in self._opened()])

    def _opened(self) -> Iterator[pq.ParquetFile]:
        for piece in self.pieces:
            with self.files.open(f"{FOLDER}/{piece}") as file:
                yield pq.ParquetFile(file)


def outputs(store: str | Path | Files) -> dict[str, Output]:
    """Everything that results() can return, by name; `replicates` is a row per task of the plan.

    The tables are built first when they are missing or older than the parts. NoStudy.
    """
    files = _files(store)
    manifest = current(files, existing(files))
    stamp = tables_folder(manifest).removeprefix(FOLDER).lstrip("/")
    found: dict[str, Output] = {}
    for name, parts in pieces(manifest).items():  # model_outputs/, raw/, replicates
        kind, _, file = name.removeprefix(f"{stamp}/").removesuffix(".parquet").rpartition("/")
        output = Output(files, files.where(f"{FOLDER}/{name}"), tuple(parts))
        found.setdefault(output_name(file) if kind else REPLICATES, output)
    return found


def output(store: str | Path | Files, name: str | None = None) -> Output:
    """One of outputs(); the name may be left out when the model has only one. NoStudy, NoOutput."""
    files = _files(store)
    known = outputs(files)
    if name is None:
        own = [each for each in known if each != REPLICATES] or [REPLICATES]
        if len(own) > 1:
            raise NoOutput(files.where(), None, own)
        name = own[0]
    if name not in known:
        raise NoOutput(files.where(), name, list(known))
    return known[name]


def results(store: str | Path | Files, name: str | None = None) -> pa.Table:
    """One output of all tasks that are ok, as one table, in the order of the tasks.

    Columns: set, replicate, seed, param_id, a param_NAME for every parameter, then those the model returned.
    What is no table has one row per task and the column `bytes`. `replicates` has a row per task of the plan
    with its status, attempts, seconds and peak_bytes. The name may be left out when the model has only one
    output. What does not fit into memory: output(store, name).batches(), or any reader of Parquet on its
    `where`.

        >>> results("out/sir", "curve").column_names[:6]
        ['set', 'replicate', 'seed', 'param_id', 'param_beta', 'param_gamma']

    NoStudy when there is no study, NoOutput when there is no such output.
    """
    return output(store, name).table()


def _files(store: str | Path | Files) -> Files:
    return store if isinstance(store, Files) else Files(str(store))
