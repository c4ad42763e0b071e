"""Compaction: parts -> results/, the tables for users.

    results/manifest.json               tasks by state, the files and their sizes, outputs that do not fit
    results/replicates.parquet          a row per task of the plan: status, attempts, seconds, peak_bytes
    results/model_outputs/NAME.parquet  the rows of every table that the model returned as NAME
    results/raw/NAME.parquet            outputs NAME that are not tables: a row per task, in `bytes`

Every file begins with set, replicate, seed, param_id and a column for each parameter, and is in the order of
the tasks, so that the same outcomes always give the same rows. A file that grows beyond 256 MiB is a folder
of that name with files "part-NNNNN.parquet". results/ can always be built again. Memory is bounded: a few row
groups of parts, and unwritten rows.

A folder is replaced as a whole. An object store cannot do that, so there the tables are in results/STAMP/,
with a unique name for each run, and the manifest, written last, names them: a reader that follows it finds
the tables of one run, even if others write. The tables of the previous manifest stay for current readers;
those of the one before are removed (leftovers.py).

This module does not decide which tasks are ok: fold.py does. tables.py parses and promotes, results.py reads
the tables.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

import numpy as np
import pyarrow as pa

from modelops_dask.errors import BadInput
from modelops_dask.plan.plan import STATES, Plan
from modelops_dask.store import leftovers, parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import MAX_ATTEMPTS, State, fold, winners
from modelops_dask.store.generations import Generations
from modelops_dask.store.identity import read_study
from modelops_dask.store.left_out import list_names
from modelops_dask.store.manifest import Manifest
from modelops_dask.store.output_files import choose_stems, output_name
from modelops_dask.store.redo import FOLDER as REDO_FOLDER
from modelops_dask.store.tables import Mixed, TableFile, as_table
from modelops_dask.store.task_columns import Identity

FOLDER = "results"
MANIFEST = f"{FOLDER}/manifest.json"
_FLUSH_BYTES = 64 * 2**20
_FLUSH_TASKS = 4096
_CACHED_GROUPS = 4
_VERSION = 3  # version of the rules for building results/; another one builds them again


class TablesSummary(TypedDict):
    """The result of write_tables(): tasks by state, problems, and bytes by path, sorted by path.

    `redo_pending` of the pending tasks have to run again. `names` are those of outputs by path of their
    table; `left_out` and `missing` are as in the manifest.
    """

    tasks: dict[str, int]
    redo_pending: int
    problems: list[str]
    sizes: dict[str, int]
    names: dict[str, str]
    left_out: list[str]
    missing: list[str]


class MixedOutputs(BadInput):
    """Some tasks returned a table that cannot be joined with the others; everything else is compacted."""

    def __init__(self, location: str, problems: list[str], files: tuple[str, ...] = ()) -> None:
        self.location, self.problems, self.files = location, problems, files
        super().__init__(location, problems, files)

    def __str__(self) -> str:
        text = "\n".join(self.problems[:10])
        if len(self.problems) > 10:
            text += f"\nand {len(self.problems) - 10:,} more"
        return f"{text}\nThese are stored as bytes under {self.location}; all others are in the tables."


def compact(
    store: Store,
    plan: Plan,
    max_attempts: int = MAX_ATTEMPTS,
    results_store: Store | None = None,
    on_begin: Callable[[], object] = lambda: None,
) -> list[str]:
    """Write results/ unless it is up to date, and return the paths or URLs of its files.

    With `results_store`, a folder on this machine, results/ is written there and the store's own is
    unchanged. on_begin() is called if there is something to write.

    Raises:
        MixedOutputs: Tables of one name do not fit together; everything else has been written.
    """
    results_store = results_store or store
    manifest = current_manifest(store, plan, max_attempts, results_store, on_begin)
    files = [results_store.location(f"{FOLDER}/{name}") for name in pieces(manifest)]
    if manifest["problems"]:
        folder = results_store.location(f"{tables_folder(manifest)}/raw")
        raise MixedOutputs(folder, manifest["problems"], tuple(files))
    return files


def current_manifest(
    store: Store,
    plan: Plan,
    max_attempts: int = MAX_ATTEMPTS,
    results_store: Store | None = None,
    on_begin: Callable[[], object] = lambda: None,
) -> Manifest:
    """Return the manifest of results/, after writing results/ unless it is complete and up to date.

    on_begin() is called if there is something to write.
    """
    results_store = results_store or store
    sources = _sources(store, plan, max_attempts)
    manifest = read_manifest(results_store)
    if manifest and manifest.get("built_from") == sources and _is_whole(results_store, manifest):
        return manifest
    while True:
        on_begin()
        try:
            return _build(store, plan, max_attempts, sources, results_store)
        except (FileNotFoundError, parts.NotAPart):
            before, sources = sources, _sources(store, plan, max_attempts)
            if sources == before:
                raise
            # Parts were merged (merge.py) by another run, or damaged, while this one read them.


def tables_folder(manifest: Manifest) -> str:
    """The folder of the store that holds model_outputs/, raw/ and replicates.parquet."""
    return f"{FOLDER}/{manifest['stamp']}" if manifest.get("stamp") else FOLDER


def pieces(manifest: Manifest) -> dict[str, list[str]]:
    """Map every table in results/, by its file or folder, to the files to read, in order."""
    pieces_by_table: dict[str, list[str]] = {}
    for name in manifest["files"]:
        folder = name.rpartition("/")[0]
        pieces_by_table.setdefault(folder if folder.endswith(".parquet") else name, []).append(name)
    return pieces_by_table


def read_manifest(store: Store) -> Manifest | None:
    """Read results/manifest.json; None if it is missing or damaged."""
    try:
        manifest: Manifest = json.loads(store.read(MANIFEST))
    except (FileNotFoundError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and {"files", "problems"} <= manifest.keys() else None


def table_names(manifest: Manifest) -> dict[str, str]:
    """Map the tables of outputs, as in pieces(), to the outputs' names."""
    folder = f"{manifest['stamp']}/" if manifest.get("stamp") else ""
    tables = [name for name in pieces(manifest) if "/" in name.removeprefix(folder)]
    names = manifest.get("names", {})
    return {
        table: names.get(table, output_name(table.rpartition("/")[2].removesuffix(".parquet")))
        for table in tables
    }


def _sources(store: Store, plan: Plan, max_attempts: int) -> str:
    """A digest of all inputs of results/, including sizes, because a part may be damaged later."""
    sources = sorted(store.sizes(parts.FOLDER).items())
    rules = [_VERSION, read_study(store).accepted, max_attempts]
    redos, outputs = store.list(REDO_FOLDER), sorted(plan.request.outputs)
    # Without them the digest is the same as in earlier versions.
    later = [*([redos] if redos or outputs else []), *([outputs] if outputs else [])]
    sources_json = json.dumps([rules, sources, plan.request.replicates, plan.request.sets, *later])
    return blake2b(sources_json.encode(), digest_size=16).hexdigest()


def _is_whole(store: Store, manifest: Manifest) -> bool:
    """Whether the tables of a manifest exist and have its sizes; 0.1.0 wrote no sizes."""
    sizes: dict[str, int] = {}
    for folder in {name.rpartition("/")[0] for name in manifest["files"]}:
        folder_sizes = store.sizes(f"{FOLDER}/{folder}".rstrip("/"))
        sizes |= {f"{folder}/{name}".lstrip("/"): size for name, size in folder_sizes.items()}
    manifest_sizes = manifest.get("sizes", {})
    return all(
        name in sizes and manifest_sizes.get(name, sizes[name]) == sizes[name] for name in manifest["files"]
    )


def _build(store: Store, plan: Plan, max_attempts: int, sources: str, results_store: Store) -> Manifest:
    stamp = "" if results_store.folder else leftovers.new_stamp()
    with results_store.replacing(FOLDER, last=Path(MANIFEST).name) as folder:
        replaced = read_manifest(results_store)
        tables = write_tables(store, plan, folder / stamp, max_attempts, _former_stems(replaced))
        sizes = {f"{stamp}/{name}".lstrip("/"): size for name, size in tables["sizes"].items()}
        study = read_study(store)
        manifest: Manifest = {
            "built_from": sources,
            "bundle": study.bundle,
            "entrypoint": study.entrypoint,
            "tasks": tables["tasks"],
            "redo_pending": tables["redo_pending"],
            "problems": tables["problems"],
            "files": list(sizes),
            "sizes": sizes,
            "names": {f"{stamp}/{table}".lstrip("/"): name for table, name in tables["names"].items()},
            "outputs": sorted(plan.request.outputs),
            "left_out": tables["left_out"],
            "missing": tables["missing"],
        }
        if stamp:
            manifest["stamp"], manifest["replaced"] = stamp, replaced["files"] if replaced else []
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    if stamp:
        leftovers.remove(results_store, FOLDER, manifest, replaced)
    return manifest


def _former_stems(manifest: Manifest | None) -> dict[str, str]:
    """The file name of each output in the tables of a manifest, without its suffix."""
    tables = table_names(manifest) if manifest else {}
    return {name: table.rpartition("/")[2].removesuffix(".parquet") for table, name in tables.items()}


def write_tables(
    store: Store,
    plan: Plan,
    folder: Path,
    max_attempts: int = MAX_ATTEMPTS,
    former_stems: Mapping[str, str] = MappingProxyType({}),
) -> TablesSummary:
    """Write the tables of a plan into a new folder of this machine; `sizes` and `names` are by path below it.

    former_stems are file names that outputs keep (output_files.py).
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = fold(store, plan, max_attempts)
    source = _Source(store, plan, state.generations)
    writer = _Writer(folder, plan)
    requested = frozenset(plan.request.outputs)
    others = set(source.left_out)
    for index, outputs in source.tasks():
        if requested:
            others.update(name for name, _ in outputs if name not in requested)
            outputs = [(name, data) for name, data in outputs if name in requested]
        writer.add(index, outputs)
    names = writer.close(former_stems)
    _write_replicates(folder / "replicates.parquet", plan, state, source)
    paths = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    redos = state.generations.progress(state.codes, state.attempts) if state.generations else ()
    return {
        "tasks": state.counts(),
        "redo_pending": sum(redo.n_pending for redo in redos),
        "problems": writer.problems,
        "sizes": dict(sorted(sizes.items())),
        "names": names,
        "left_out": sorted(others),
        "missing": sorted(requested - set(names.values())) if source.has_tasks else [],
    }


class _Source:
    """Finds, for every ok task, the row that counts."""

    def __init__(self, store: Store, plan: Plan, generations: Generations | None) -> None:
        self._store = store
        self._names: list[str] = []
        self._part = np.full(plan.absent.size, -1, np.int32)
        self._row = np.zeros(plan.absent.size, np.int32)
        self.seconds = np.full(plan.absent.size, np.nan)
        self.peak_bytes = np.zeros(plan.absent.size, np.int64)
        self.left_out: set[str] = set()  # outputs that tasks returned but that are not stored
        columns = ["seconds", "peak_bytes", *(["left_out"] if plan.request.outputs else [])]
        for file, index, rows, table in winners(store, plan, columns, generations):
            if plan.request.outputs:
                self.left_out |= list_names(table["left_out"])
            self._part[index], self._row[index] = len(self._names), rows
            self._names.append(file)
            self.seconds[index] = table["seconds"].to_numpy()
            self.peak_bytes[index] = parts.numbers_or_zero(table, "peak_bytes")
        self._group = lru_cache(_CACHED_GROUPS)(self._read_group)
        self._starts = lru_cache(None)(self._read_starts)

    @property
    def has_tasks(self) -> bool:
        """Whether any task is ok."""
        return bool((self._part >= 0).any())

    def tasks(self) -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
        """Index and outputs of every ok task, in order. Parts hold neighbours, so few are read twice."""
        for index in np.flatnonzero(self._part >= 0).tolist():
            name, row = self._names[self._part[index]], int(self._row[index])
            starts = self._starts(name)
            group = int(np.searchsorted(starts, row, side="right")) - 1
            yield index, self._group(name, group)[row - starts[group]].as_py()

    def _read_starts(self, name: str) -> list[int]:
        with parts.open_part_file(self._store, name) as part:
            sizes = [part.metadata.row_group(number).num_rows for number in range(part.num_row_groups)]
        return list(accumulate(sizes, initial=0))[:-1]

    def _read_group(self, name: str, group: int) -> pa.ChunkedArray:
        with parts.open_part_file(self._store, name) as part:
            return part.read_row_group(group, columns=["outputs"], use_threads=False)["outputs"]


class _Writer:
    """Sorts outputs by name into tables and raw bytes, and writes each name's file in pieces."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.problems: list[str] = []
        self._folder, self._identity, self._replicates = folder, Identity(plan), plan.replicates
        self._files: dict[tuple[str, str], TableFile] = {}
        self._no_tables: dict[str, list[int]] = {}  # by output: tasks whose bytes are not a table
        self._bytes = self._tasks = 0

    def add(self, index: int, outputs: list[tuple[str, bytes]]) -> None:
        for name, data in outputs:
            table = as_table(data)
            try:
                if table is not None:
                    self._file("model_outputs", name).add(index, table)
                elif data:  # empty outputs are reported elsewhere
                    self._no_tables.setdefault(name, []).append(index)
            except Mixed as reason:
                number, replicate = divmod(index, self._replicates)
                self.problems.append(f"output {name} of task {number}/{replicate}: {reason}")
                table = None
            if table is None:
                self._file("raw", name).add(index, pa.table({"bytes": pa.array([data], pa.large_binary())}))
            self._bytes += len(data)
        self._tasks += 1
        if self._bytes > _FLUSH_BYTES or self._tasks >= _FLUSH_TASKS:
            for file in self._files.values():
                file.flush()
            self._bytes = self._tasks = 0

    def close(self, former_stems: Mapping[str, str]) -> dict[str, str]:
        """Write the remaining rows, name the tables' files, and return the outputs' names by their tables."""
        stems = choose_stems(dict.fromkeys(name for _, name in self._files), former_stems)
        names = {}
        for (kind, name), file in self._files.items():
            file.close()
            table = f"{kind}/{stems[name]}.parquet"
            if file.path.exists():
                file.path.rename(self._folder / table)
                names[table] = name
        for name, indices in self._no_tables.items():
            if ("model_outputs", name) in self._files:  # their rows are missing from the table
                number, replicate = divmod(indices[0], self._replicates)
                tasks = "task" if len(indices) == 1 else f"{len(indices):,} tasks, the first of them"
                self.problems.append(
                    f"output {name} of {tasks} {number}/{replicate}: not a table, or a damaged one; other "
                    "tasks return tables"
                )
        return names

    def _file(self, kind: str, name: str) -> TableFile:
        if (kind, name) not in self._files:
            # Names that differ only in case are known at the end.
            path = self._folder / kind / f".{len(self._files):06}.parquet"
            path.parent.mkdir(exist_ok=True)
            self._files[kind, name] = TableFile(path, self._identity)
        return self._files[kind, name]


def _write_replicates(path: Path, plan: Plan, state: State, source: _Source) -> None:
    """Write a row per task of the plan, whatever its state."""
    file = TableFile(path, Identity(plan))
    present = np.flatnonzero(~plan.absent.ravel())
    names = pa.array(STATES)
    for start in range(0, len(present), 65_536):
        index = present[start : start + 65_536]
        codes = state.codes.ravel()[index]
        has_result = source._part[index] >= 0
        columns = {
            "status": names.take(pa.array(codes)),
            "attempts": pa.array(state.attempts.ravel()[index]),
            "seconds": pa.array(source.seconds[index], mask=~has_result),
            "peak_bytes": pa.array(source.peak_bytes[index], mask=~has_result),
        }
        file.add_rows(index, pa.table(columns))
        file.flush()
    file.close()
