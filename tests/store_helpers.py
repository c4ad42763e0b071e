"""Stores for tests: a study of given sets, tasks' attempts, tables as bytes. Needs no bundle and no Dask."""

import itertools
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.store import parts, study
from modelops_dask.store.files import Files
from modelops_dask.study import spec
from modelops_dask.study.plan import Plan

DIGEST = "sha256:" + "a" * 64
_numbers = itertools.count()


def write_spec(folder, sets="[{a: 1}, {a: 2}, {a: 3}]", replicates=4):
    """A study file of explicit sets, loaded."""
    path = folder / f"spec-{next(_numbers)}.yaml"
    path.write_text(f"name: s\nmodel: m.s\nscenario: b\nreplicates: {replicates}\nsets: {sets}\n")
    return spec.load(path)


def begin(files: Files, folder, **changes) -> Plan:
    """A store with a plan."""
    return study.begin(files, write_spec(folder, **changes), DIGEST)


def attempt(plan: Plan, set_number: int, replicate: int, status="ok", **more) -> parts.Attempt:
    """A row of a task, with its own seed; ok ones have an output unless one is given."""
    task = plan.task(plan.index(set_number, replicate))
    if status == "ok":
        more.setdefault("outputs", {"raw": b"%d/%d" % (set_number, replicate)})
    return parts.Attempt(set_number, replicate, task.seed, status, **more)


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
