"""The part of verify.py that reads results/: are the tables what the parts say?

results/ + Tasks + Ledger -> Findings; no results/ at all is no finding, for it can be built at any time

Of every row it is looked up, in the parts, what the task returned. In an object store the tables lie in a
folder of results/ whose name has a time, which the manifest gives as `stamp`; other such folders are of
earlier runs. Shares no code with compact.py.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.store.verify_parts import Ledger
from modelops_dask.store.verify_tasks import Report, Store, Tasks

REBUILD = "remove the folder results; mops-helm study results builds it anew"
STAMPED = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}/")
IDENTITY = frozenset({"set", "replicate", "seed", "param_id"})


def check_results(files: Store, tasks: Tasks, ledger: Ledger, report: Report) -> None:
    """Compare every table of results/ with the parts."""
    if all(STAMPED.match(f"{name}/") for name in files.names("results")):
        return  # nothing there, or tables of a run that did not come to its manifest
    try:
        manifest = json.loads(files.read("results/manifest.json"))
        counts, listed = manifest["tasks"], set(manifest["files"])
        stamp = f"{manifest['stamp']}/" if manifest.get("stamp") else ""
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        report.add("RESULTS", "results/manifest.json", f"is missing or damaged: {REBUILD}")
        return
    if counts != report.tasks:
        report.add("RESULTS", "results/manifest.json", f"counts {counts}, parts {report.tasks}: {REBUILD}")
    there = {name for name in _below(files, "results") if name.endswith(".parquet") and _is_of(stamp, name)}
    for name in sorted(there ^ listed):
        say = "is not listed in the manifest" if name in there else "is missing"
        report.add("RESULTS", f"results/{name}", f"{say}: {REBUILD}")
    source = _Outputs(files, ledger)
    ours = IDENTITY | {f"param_{key}" for text in tasks.params for key in json.loads(text)}
    returned: Counter[str] = Counter()
    replicates = 0
    for name in sorted(there & listed):
        try:
            table = name.removeprefix(stamp)
            if table.startswith("replicates"):
                replicates += _check_replicates(files, name, tasks, ledger)
            else:
                kind, output = _kind(table)
                returned[output] += _check_output(files, name, kind, output, tasks, ledger, source, ours)
        except FileNotFoundError:
            report.add("CHANGING", f"results/{name}", "went away: verify again when nobody runs the study")
        except (_Differs, ValueError, OSError, KeyError) as error:
            report.add("RESULTS", f"results/{name}", f"{str(error).partition(chr(10))[0]}: {REBUILD}")
    if any(finding.code in ("RESULTS", "CHANGING") for finding in report.findings):
        return
    if replicates != (total := sum(report.tasks.values())):
        report.add("RESULTS", "results", f"has rows of {replicates:,} tasks of {total:,}: {REBUILD}")
    if not ledger.conflicts:
        _check_complete(returned, tasks, source, report)


def _is_of(stamp: str, name: str) -> bool:
    """Whether a file of results/ is of the manifest's own run, and not of one before or beside it."""
    return name.startswith(stamp) if stamp else not STAMPED.match(name)


class _Differs(Exception):
    """Where a table is not what the parts say."""


def _below(files: Store, folder: str, inside: str = "") -> Iterator[str]:
    for name in files.names(f"{folder}/{inside}".rstrip("/")):
        path = f"{inside}/{name}".lstrip("/")
        if files.is_folder(f"{folder}/{path}"):
            yield from _below(files, folder, path)
        else:
            yield path


def _kind(name: str) -> tuple[str, str]:
    """model_outputs/NAME.parquet, or model_outputs/NAME.parquet/part-00000.parquet -> its kind and output."""
    kind, file, *_ = name.split("/")
    stem = file.removesuffix(".parquet")
    return kind, "" if stem == "%" else unquote(stem)


class _Outputs:
    """What tasks returned, from their parts; a few row groups are kept, for neighbours lie together."""

    def __init__(self, files: Store, ledger: Ledger) -> None:
        self._ledger = ledger
        self._file = lru_cache(2)(lambda file: files.parquet(f"parts/{ledger.files[file]}"))
        self._group = lru_cache(4)(
            lambda file, group: self._file(file).read_row_group(group, columns=["outputs"])["outputs"]
        )

    def of(self, number: int, replicate: int) -> dict[str, bytes]:
        file, group, row = self._ledger.place[number, replicate].tolist()
        return {} if file < 0 else dict(self._group(file, group)[row].as_py())


def _check_replicates(files: Store, name: str, tasks: Tasks, ledger: Ledger) -> int:
    """Compare rows with the tasks' states; how many there are."""
    columns = ["set", "replicate", "seed", "param_id", "status", "attempts"]
    last = (-1, -1)
    rows = files.parquet(f"results/{name}").read(columns=columns, use_threads=False).to_pylist()
    for row in rows:
        task = row["set"], row["replicate"]
        where = f"task {task[0]}/{task[1]}"
        if task <= last or not (tasks.exists(*task) and tasks.asked(*task)):
            raise _Differs(f"has {where} out of order, or twice, or for no reason")
        last = task
        says = tuple(row[column] for column in columns[2:])
        attempts = min(int(ledger.attempts[task]), 255)
        is_so = (tasks.seed(*task), tasks.ids[task[0]], ledger.state(*task), attempts)
        if says != is_so:
            raise _Differs(f"says {says} of {where}, and the parts {is_so}")
    return len(rows)


def _check_output(
    files: Store,
    name: str,
    kind: str,
    output: str,
    tasks: Tasks,
    ledger: Ledger,
    source: _Outputs,
    ours: frozenset[str],
) -> int:
    """Compare a table with what its tasks returned; how many tasks it has."""
    done, last = 0, (-1, -1)
    for task, rows in _by_task(files.parquet(f"results/{name}")):
        number, replicate = task
        if task <= last:
            raise _Differs(f"has task {number}/{replicate} out of order, or twice")
        last, done = task, done + 1
        if not (number < len(tasks.ids) and tasks.asked(*task)) or ledger.state(*task) != "ok":
            raise _Differs(f"has task {number}/{replicate}, which is not ok")
        if set(rows["seed"].to_pylist()) != {tasks.seed(*task)}:
            raise _Differs(f"has another seed of task {number}/{replicate}")
        if task in ledger.conflicts:
            continue  # any of its results may be here
        data = source.of(*task).get(output)
        if kind == "raw":
            same = data is not None and rows["bytes"].to_pylist() == [data]
        else:
            table = None if data is None else parse(data)
            same = table is not None and _same(rows, table, json.loads(tasks.params[number]), ours)
        if not same:
            raise _Differs(f"has other rows of task {number}/{replicate} than the task returned")
    return done


def _by_task(file: pq.ParquetFile) -> Iterator[tuple[tuple[int, int], pa.Table]]:
    """The rows of each task, which follow one another."""
    held, task = [], None
    for batch in file.iter_batches(65_536, use_threads=False):
        table = pa.Table.from_batches([batch])
        pairs = list(zip(table["set"].to_pylist(), table["replicate"].to_pylist(), strict=True))
        start = 0
        for at in range(1, len(pairs) + 1):
            if at < len(pairs) and pairs[at] == pairs[start]:
                continue
            if task is not None and pairs[start] != task:
                yield task, pa.concat_tables(held)
                held = []
            held.append(table.slice(start, at - start))
            task, start = pairs[start], at
    if task is not None:
        yield task, pa.concat_tables(held)


def parse(data: bytes) -> pa.Table | None:
    """The table in bytes of Arrow IPC or Parquet; None when they hold none."""
    readers = {
        b"PAR1": lambda: pq.read_table(io.BytesIO(data), use_threads=False),
        b"ARRO": lambda: pa.ipc.open_file(io.BytesIO(data)).read_all(),
        b"\xff\xff\xff\xff": lambda: pa.ipc.open_stream(io.BytesIO(data)).read_all(),
    }
    try:
        return readers[data[:4]]()
    except (KeyError, pa.ArrowException, OSError):
        return None


def _same(rows: pa.Table, table: pa.Table, params: dict[str, Any], ours: frozenset[str]) -> bool:
    """Whether rows of results hold a model's table, widened, and the task's parameters; all else is null."""
    if rows.num_rows != table.num_rows:
        return False
    taken = set(ours)
    for field in table.schema:
        name = f"{field.name}_model" if field.name in ours else field.name
        taken.add(name)
        if name not in rows.column_names or not _equal(table[field.name], rows[name]):
            return False
    others = [rows[name] for name in rows.column_names if name not in taken]
    return all(column.null_count == len(column) for column in others) and all(
        _is_value(rows[name][0].as_py(), params.get(name.removeprefix("param_"))) for name in ours - IDENTITY
    )


def _equal(returned: pa.ChunkedArray, kept: pa.ChunkedArray) -> bool:
    if pa.types.is_dictionary(returned.type):
        returned = returned.cast(returned.type.value_type)
    returned = returned.cast(kept.type)
    # NaN does not equal itself; as text it does.
    return returned.equals(kept) or str(returned.to_pylist()) == str(kept.to_pylist())


def _is_value(kept: object, value: object) -> bool:
    """A parameter as it is, or as JSON where sets have several kinds of values."""
    return kept == value or kept == json.dumps(value, sort_keys=True, ensure_ascii=False)


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
