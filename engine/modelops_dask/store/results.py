"""Read the results of a study in Python.

    from modelops_dask.store.results import results
    results("out/sir", "curve").to_pandas().groupby(["param_beta", "day"]).infected.median()

Does not write but for results/ itself, which it builds when it is missing or older than what the store holds.
"""

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.errors import BadInput
from modelops_dask.store.compact import FOLDER, MixedOutputs, compact, output_name, read_manifest
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


def outputs(store: str | Path | Files) -> dict[str, str]:
    """Name -> file under results/ of everything that results() can return; `replicates` is a row per task."""
    files = _files(store)
    with suppress(MixedOutputs):  # what fits is there
        compact(files, existing(files))
    found: dict[str, str] = {}
    for name in sorted(read_manifest(files)["files"]):  # model_outputs/, raw/, replicates
        kind, _, file = name.removesuffix(".parquet").rpartition("/")
        found.setdefault(output_name(file) if kind else REPLICATES, name)
    return found


def results(store: str | Path | Files, output: str | None = None) -> pa.Table:
    """One output of all tasks that are ok, as one table, in the order of the tasks.

    Columns: set, replicate, seed, param_id, a param_NAME for every parameter, then those the model returned.
    What is no table has one row per task and the column `bytes`. `replicates` has a row per task of the plan
    with its status, attempts, seconds and peak_bytes. The output may be left out when the model has only one.

        >>> results("out/sir", "curve").column_names[:6]
        ['set', 'replicate', 'seed', 'param_id', 'param_beta', 'param_gamma']

    NoStudy when there is no study, NoOutput when there is no such output.
    """
    files = _files(store)
    known = outputs(files)
    if output is None:
        own = [name for name in known if name != REPLICATES] or [REPLICATES]
        if len(own) > 1:
            raise NoOutput(files.where(), None, own)
        output = own[0]
    if output not in known:
        raise NoOutput(files.where(), output, list(known))
    with files.open(f"{FOLDER}/{known[output]}") as file:
        # Arrow's threads may outlive the read and abort a process that ends at once: 16 of 40 times.
        return pq.read_table(file, use_threads=False)


def _files(store: str | Path | Files) -> Files:
    return store if isinstance(store, Files) else Files(str(store))
