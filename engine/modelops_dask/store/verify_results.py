"""The part of verify.py that reads results/: do the tables match the parts?

results/ + Tasks + StoredAttempts -> Defects; a missing results/ is not one, because it can be built at any
time

For every row, the task's output is looked up in the parts. In an object store the tables are in a folder of
results/ whose name has a time, which the manifest gives as `stamp`; other such folders belong to earlier
runs. It shares no code with compact.py.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Set
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.store.verify_neutral import NotCanonical, read_neutral
from modelops_dask.store.verify_parts import StoredAttempts
from modelops_dask.store.verify_tasks import Report, StoreReader, Tasks

REBUILD = "remove the folder results; mops-helm study results builds it again"
STAMPED = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}/")
IDENTITY = frozenset({"set", "replicate", "seed", "param_id"})


def check_results(reader: StoreReader, tasks: Tasks, ledger: StoredAttempts, report: Report) -> None:
    """Compare every table of results/ with the parts."""
    if all(STAMPED.match(f"{name}/") for name in reader.names("results")):
        return  # missing, or tables of a run that did not write its manifest
    try:
        manifest = json.loads(reader.read("results/manifest.json"))
        counts, manifest_names = manifest["tasks"], set(manifest["files"])
        stamp = f"{manifest['stamp']}/" if manifest.get("stamp") else ""
        names = {str(table): str(output) for table, output in manifest.get("names", {}).items()}
        mixed_outputs = [str(problem) for problem in manifest.get("problems", ())]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        report.add("RESULTS", "results/manifest.json", f"is missing or damaged: {REBUILD}")
        return
    for problem in mixed_outputs:
        report.add("MIXED", f"results/{stamp}raw", problem)
    if counts != report.tasks:
        report.add("RESULTS", "results/manifest.json", f"counts {counts}, parts {report.tasks}: {REBUILD}")
    table_names = {
        name for name in _below(reader, "results") if name.endswith(".parquet") and _is_of(stamp, name)
    }
    for name in sorted(table_names ^ manifest_names):
        message = "is not listed in the manifest" if name in table_names else "is missing"
        report.add("RESULTS", f"results/{name}", f"{message}: {REBUILD}")
    source = _Outputs(reader, ledger, tasks)
    columns = _parameter_columns({key for text in tasks.params for key in json.loads(text)})
    returned: Counter[str] = Counter()
    replicates = 0
    for name in sorted(table_names & manifest_names):
        try:
            table = name.removeprefix(stamp)
            if table.startswith("replicates"):
                replicates += _check_replicates(reader, name, tasks, ledger)
            else:
                kind, output = _kind(table, stamp, names)
                returned[output] += _check_output(reader, name, kind, output, tasks, ledger, source, columns)
        except FileNotFoundError:
            report.add(
                "CHANGING",
                f"results/{name}",
                "disappeared during the check: verify again when the study is not running",
            )
        except (_Differs, ValueError, OSError, KeyError) as error:
            report.add("RESULTS", f"results/{name}", f"{str(error).partition(chr(10))[0]}: {REBUILD}")
    if any(finding.code in ("RESULTS", "CHANGING") for finding in report.findings):
        return
    if replicates != (total := sum(report.tasks.values())):
        report.add("RESULTS", "results", f"has rows of {replicates:,} tasks of {total:,}: {REBUILD}")
    if not ledger.conflicts:
        _check_complete(returned, tasks, source, report)


def _is_of(stamp: str, name: str) -> bool:
    """Whether a file of results/ belongs to the manifest's own run, not to an earlier or concurrent one."""
    return name.startswith(stamp) if stamp else not STAMPED.match(name)


class _Differs(Exception):
    """A position at which a table differs from the parts."""


def _below(reader: StoreReader, folder: str, inside: str = "") -> Iterator[str]:
    for name in reader.names(f"{folder}/{inside}".rstrip("/")):
        path = f"{inside}/{name}".lstrip("/")
        if reader.is_folder(f"{folder}/{path}"):
            yield from _below(reader, folder, path)
        else:
            yield path


def _kind(name: str, stamp: str, names: dict[str, str]) -> tuple[str, str]:
    """model_outputs/NAME.parquet, or model_outputs/NAME.parquet/part-00000.parquet -> its kind and output.

    Tables of earlier versions, which the manifest does not name, are named by their output, quoted.
    """
    kind, file, *_ = name.split("/")
    stem = file.removesuffix(".parquet")
    return kind, names.get(f"{stamp}{kind}/{file}", "" if stem == "%" else unquote(stem))


class _Outputs:
    """The outputs that tasks returned and the study stores, from their parts; a few row groups are cached."""

    def __init__(self, reader: StoreReader, ledger: StoredAttempts, tasks: Tasks) -> None:
        self._ledger, self._tasks = ledger, tasks
        self._file = lru_cache(2)(lambda file: reader.parquet(f"parts/{ledger.files[file]}"))
        self._group = lru_cache(4)(
            lambda file, group: self._file(file).read_row_group(group, columns=["outputs"])["outputs"]
        )

    def of(self, number: int, replicate: int) -> dict[str, bytes]:
        file, group, row = self._ledger.place[number, replicate].tolist()
        outputs = [] if file < 0 else self._group(file, group)[row].as_py()
        return {name: data for name, data in outputs if self._tasks.stores(name)}


def _check_replicates(reader: StoreReader, name: str, tasks: Tasks, ledger: StoredAttempts) -> int:
    """Compare rows with the tasks' states; return their number."""
    columns = ["set", "replicate", "seed", "param_id", "status", "attempts"]
    last = (-1, -1)
    rows = reader.parquet(f"results/{name}").read(columns=columns, use_threads=False).to_pylist()
    for row in rows:
        task = row["set"], row["replicate"]
        task_label = f"task {task[0]}/{task[1]}"
        if task <= last or not (tasks.exists(*task) and tasks.is_requested(*task)):
            raise _Differs(f"has {task_label} out of order, twice or without a reason")
        last = task
        table_values = tuple(row[column] for column in columns[2:])
        attempts = min(int(ledger.attempts[task]), 255)
        part_values = (tasks.seed(*task), tasks.ids[task[0]], ledger.state(*task), attempts)
        if table_values != part_values:
            raise _Differs(f"has {table_values} for {task_label}, but the parts have {part_values}")
    return len(rows)


def _check_output(
    reader: StoreReader,
    name: str,
    kind: str,
    output: str,
    tasks: Tasks,
    ledger: StoredAttempts,
    source: _Outputs,
    columns: dict[str, str],
) -> int:
    """Compare a table with its tasks' outputs; return its number of tasks. columns: those of parameters."""
    n_tasks, last = 0, (-1, -1)
    file = reader.parquet(f"results/{name}")
    renamed = {} if kind == "raw" else _renamed_columns(file, output, source, tasks, columns)
    for task, rows in _by_task(file):
        number, replicate = task
        if task <= last:
            raise _Differs(f"has task {number}/{replicate} out of order, or twice")
        last, n_tasks = task, n_tasks + 1
        if not (number < len(tasks.ids) and tasks.is_requested(*task)) or ledger.state(*task) != "ok":
            raise _Differs(f"has task {number}/{replicate}, which is not ok")
        if set(rows["seed"].to_pylist()) != {tasks.seed(*task)}:
            raise _Differs(f"has a wrong seed for task {number}/{replicate}")
        if task in ledger.conflicts:
            continue  # any of its results may be here
        data = source.of(*task).get(output)
        if kind == "raw":
            is_same = data is not None and rows["bytes"].to_pylist() == [data]
        else:
            table = None if data is None else parse(data)
            is_same = table is not None and _rows_match(
                rows, table, json.loads(tasks.params[number]), columns, renamed
            )
        if not is_same:
            raise _Differs(f"has rows of task {number}/{replicate} that differ from those the task returned")
    return n_tasks


def _by_task(
    file: pq.ParquetFile, columns: list[str] | None = None
) -> Iterator[tuple[tuple[int, int], pa.Table]]:
    """The rows of each task, which are adjacent."""
    tables, task = [], None
    for batch in file.iter_batches(65_536, columns=columns, use_threads=False):
        table = pa.Table.from_batches([batch])
        pairs = list(zip(table["set"].to_pylist(), table["replicate"].to_pylist(), strict=True))
        start = 0
        for stop in range(1, len(pairs) + 1):
            if stop < len(pairs) and pairs[stop] == pairs[start]:
                continue
            if task is not None and pairs[start] != task:
                yield task, pa.concat_tables(tables)
                tables = []
            tables.append(table.slice(start, stop - start))
            task, start = pairs[start], stop
    if task is not None:
        yield task, pa.concat_tables(tables)


def parse(data: bytes) -> pa.Table | None:
    """The table in bytes of the neutral form, Arrow IPC or Parquet; None if they hold none."""
    readers = {
        b"\x89tab": lambda: read_neutral(data),
        b"PAR1": lambda: pq.read_table(io.BytesIO(data), use_threads=False),
        b"ARRO": lambda: pa.ipc.open_file(io.BytesIO(data)).read_all(),
        b"\xff\xff\xff\xff": lambda: pa.ipc.open_stream(io.BytesIO(data)).read_all(),
    }
    try:
        return readers[data[:4]]()
    except (KeyError, pa.ArrowException, OSError, NotCanonical):
        return None


def _parameter_columns(parameters: Set[str]) -> dict[str, str]:
    """Parameters by their columns. The column of `id` would be one of ours, so it has another underscore."""
    columns = {f"param_{name}": name for name in parameters if name != "id"}
    if "id" in parameters:
        column = "param_id_"
        while column in columns:
            column += "_"
        columns[column] = "id"
    return columns


def _renamed_columns(
    file: pq.ParquetFile, output: str, source: _Outputs, tasks: Tasks, columns: dict[str, str]
) -> dict[str, str]:
    """The columns of a model that have our names, with their names in a table of results.

    They have the suffix "_model", which is repeated if a task returns a column of that name.
    """
    if not any(name.endswith("_model") for name in file.schema_arrow.names):
        return {}
    returned: set[str] = set()
    own_names = IDENTITY.union(columns)
    tasks_with_rows = {task for task, _ in _by_task(file, ["set", "replicate"])}
    for task in tasks.all():  # others with rows are under raw/
        data = source.of(*task).get(output)
        table = None if data is None else parse(data)
        if table is not None and (task in tasks_with_rows or not table.num_rows):
            returned.update(table.column_names)
    renamed: dict[str, str] = {}
    for name in sorted(returned & own_names):
        column = f"{name}_model"
        while column in returned | own_names or column in renamed.values():
            column += "_model"
        renamed[name] = column
    return renamed


def _rows_match(
    rows: pa.Table,
    table: pa.Table,
    params: dict[str, Any],
    columns: dict[str, str],
    renamed: dict[str, str],
) -> bool:
    """Whether rows of results hold a model's table, widened, and the task's parameters; all else is null."""
    if rows.num_rows != table.num_rows:
        return False
    compared_names = {*IDENTITY, *columns}
    for field in table.schema:
        name = renamed.get(field.name, field.name)
        if name in IDENTITY or name in columns or name not in rows.column_names:
            return False
        compared_names.add(name)
        if not _columns_match(table[field.name], rows[name]):
            return False
    other_columns = [rows[name] for name in rows.column_names if name not in compared_names]
    return all(column.null_count == len(column) for column in other_columns) and all(
        _is_value(rows[column][0].as_py(), params.get(name)) for column, name in columns.items()
    )


def _columns_match(returned: pa.ChunkedArray, column: pa.ChunkedArray) -> bool:
    if returned.null_count == len(returned):
        return column.null_count == len(column)
    if pa.types.is_dictionary(returned.type):
        returned = returned.cast(returned.type.value_type)
    try:
        widened = returned.cast(column.type)
    except pa.ArrowException:  # such as integers to decimals of many digits, and lists without items
        widened = returned
    if returned.type != column.type and "decimal" in f"{returned.type} {column.type}":
        return returned.to_pylist() == column.to_pylist()  # Arrow rounds them to floats; Python is exact
    # NaN does not equal itself; as text it does.
    return widened.equals(column) or str(widened.to_pylist()) == str(column.to_pylist())


def _is_value(cell: object, value: object) -> bool:
    """Whether a value is a parameter, unchanged, or as JSON if sets have several kinds of values."""
    return cell == value or cell == json.dumps(value, sort_keys=True, ensure_ascii=False)


def _check_complete(returned: Counter[str], tasks: Tasks, source: _Outputs, report: Report) -> None:
    """Every output of every ok task must be in a table, unless it is a table without rows."""
    expected: Counter[str] = Counter()
    for task in tasks.all():
        for name, data in source.of(*task).items():
            table = parse(data)
            expected[name] += table is None or table.num_rows > 0
    for name in sorted(expected.keys() | returned.keys()):
        if expected[name] != returned[name]:
            numbers = f"{returned[name]:,} tasks, and {expected[name]:,} returned it"
            report.add("RESULTS", "results", f"holds output {name} of {numbers}: {REBUILD}")
