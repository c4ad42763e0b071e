"""Stores for tests: a study of given sets, tasks' attempts, tables as bytes. Needs no bundle and no Dask."""

import itertools
import json
from io import BytesIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelops_dask.plan import spec
from modelops_dask.plan.plan import Plan
from modelops_dask.store import parts, study
from modelops_dask.store.files import Store
from modelops_dask.store.identity import PartMark, read_study

DIGEST = "sha256:" + "a" * 64
_numbers = itertools.count()


def with_seeds(n: int) -> pytest.MarkDecorator:
    """Parameters `files` and `seed`: n seeds in a folder, and a few elsewhere, where requests take time."""
    cases = [("folder", seed) for seed in range(n)] + [("memory", 0), ("s3", 1), ("s3", 2)]
    return pytest.mark.parametrize("files, seed", cases, indirect=["files"])


def write_spec(folder, sets="[{a: 1}, {a: 2}, {a: 3}]", replicates=4):
    """A study file of explicit sets, loaded."""
    path = folder / f"spec-{next(_numbers)}.yaml"
    path.write_text(f"name: s\nmodel: m.s\nscenario: b\nreplicates: {replicates}\nsets: {sets}\n")
    return spec.load(path)


def begin(files: Store, folder, **changes) -> Plan:
    """A store with a plan."""
    return study.begin(files, write_spec(folder, **changes), DIGEST)


def attempt(plan: Plan, set_number: int, replicate: int, status="ok", **more) -> parts.Attempt:
    """A row of a task, with its own seed; ok ones have an output unless one is given."""
    task = plan.task(plan.index(set_number, replicate))
    if status == "ok":
        more.setdefault("outputs", {"raw": b"%d/%d" % (set_number, replicate)})
    return parts.Attempt(set_number, replicate, task.seed, status, **more)


def mark(files: Store) -> PartMark:
    """The mark of parts of the study that a store holds."""
    study_now = read_study(files)
    return study_now.mark(study_now.bundle)


def tree(files: Store) -> dict[str, bytes]:
    """Every file of a store, those of which list() does not speak included."""
    if files.folder:
        paths = [path for path in files.folder.rglob("*") if path.is_file()]
        return {path.relative_to(files.folder).as_posix(): path.read_bytes() for path in paths}
    filesystem, root = fsspec.core.url_to_fs(files.url, use_listings_cache=False)
    return {path.partition(f"{root}/")[2]: filesystem.cat_file(path) for path in filesystem.find(root)}


def read_parquet(files: Store, name: str) -> pa.Table:
    """A file of a store as it is, or a folder of files as one table."""
    names = [each for each in sorted(tree(files)) if each == name or each.startswith(f"{name}/")]
    return pa.concat_tables([pq.read_table(pa.BufferReader(files.read(each))) for each in names])


def table_path(files: Store, name: str) -> str:
    """The path in the store of a table of results/, such as model_outputs/curve.parquet."""
    manifest = json.loads(files.read("results/manifest.json"))
    return "/".join(filter(None, ("results", manifest.get("stamp"), name)))


def ipc_stream(table: pa.Table) -> bytes:
    sink = BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def ipc_file(table: pa.Table) -> bytes:
    sink = BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()
