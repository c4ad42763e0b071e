"""The results of a study, to be listed or written whole.

store -> results/ (built when it is missing or old) -> Arrow tables by output -> a list, or CSV or Parquet
"""

import sys
from typing import TYPE_CHECKING, BinaryIO

from modelops_dask.errors import BadInput
from modelops_dask.store.files import Files
from modelops_dask.store.results import FOLDER, outputs
from modelops_dask.store.results import results as table_of

if TYPE_CHECKING:
    import pyarrow as pa


def read(store: str, name: str | None) -> dict[str, tuple[str, "pa.Table"]]:
    """Every output, or the one named: (file, table). NoStudy, NoOutput."""
    files = Files(store)
    known = outputs(files)
    if name is not None and name not in known:
        table_of(files, name)  # raises NoOutput, which knows the names
    chosen = [name] if name is not None else list(known)
    return {each: (files.where(f"{FOLDER}/{known[each]}"), table_of(files, each)) for each in chosen}


def write(store: str, name: str | None, to: str, stream: BinaryIO) -> None:
    """One output as CSV or Parquet bytes; NoOutput when there are several and none is named."""
    import pyarrow.csv
    import pyarrow.parquet

    table = table_of(Files(store), name)
    if to == "csv":
        pyarrow.csv.write_csv(table, stream)
        return
    if sys.stdout.isatty():
        raise BadInput("Parquet is not for a terminal: add > FILE.parquet")
    pyarrow.parquet.write_table(table, stream)
