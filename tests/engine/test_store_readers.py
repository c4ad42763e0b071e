"""Results larger than one file: a folder of files that pandas, polars, DuckDB and Arrow read like one."""

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from modelops_dask.store import parts
from modelops_dask.store.results import opened, output, outputs, results
from modelops_dask.store.verify import verify
from mops_helm.study import results as study_results
from store_helpers import attempt, begin, ipc_stream, read_parquet, table_path

COLUMNS = ["set", "replicate", "day", "value", "label"]


@pytest.fixture
def study(files, tmp_path, monkeypatch):
    """A table in one file and another in several, of which a type widens after the first."""
    monkeypatch.setattr("modelops_dask.store.compact._FLUSH_TASKS", 4)
    monkeypatch.setattr("modelops_dask.store.tables.PIECE_BYTES", 6_000)
    plan = begin(files, tmp_path, replicates=8)
    for task in plan.tasks([(0, plan.absent.size)]):
        value = [task.seed / 2] if task.set == 2 else [task.seed]
        big = pa.table(
            {"day": range(100), "value": value * 100, "label": [str(task.seed * i) for i in range(100)]}
        )
        small = pa.table({"n": [task.set]})
        made = {"big": ipc_stream(big), "small": ipc_stream(small)}
        parts.write(files, [attempt(plan, task.set, task.replicate, outputs=made)])
    outputs(files)
    return files


def test_a_small_table_is_a_file_and_a_large_one_a_folder(study):
    assert study.list(table_path(study, "model_outputs"))[-1] == "small.parquet"
    pieces = study.list(table_path(study, "model_outputs/big.parquet"))
    assert pieces == [f"part-{i:05}.parquet" for i in range(len(pieces))] and len(pieces) > 2
    schemas = [
        read_parquet(study, table_path(study, f"model_outputs/big.parquet/{piece}")).schema
        for piece in pieces
    ]
    assert all(schema == schemas[0] for schema in schemas) and schemas[0].field("value").type == pa.float64()
    assert verify(study.location()).findings == []


def test_our_own_readers(study):
    big = output(study, "big")
    table = results(study, "big")
    assert big.n_rows == table.num_rows == 2400 and big.schema == table.schema
    assert pa.Table.from_batches(list(big.batches(70))).equals(table)
    assert big.head(3).equals(table.slice(0, 3))
    sets = table["set"].to_pylist()
    assert sets == sorted(sets)


@pytest.mark.parametrize("files", ["folder"], indirect=True)
@pytest.mark.parametrize("name, rows", [("big", 2400), ("small", 24)])
def test_readers_of_others(study, name, rows):
    where = output(study, name).where
    ours = results(study, name)
    assert pq.read_table(where).select(ours.column_names).sort_by([("set", "ascending")]).num_rows == rows
    assert pyarrow.dataset.dataset(where).to_table().equals(ours)
    assert pandas.read_parquet(where).equals(ours.to_pandas())
    assert polars.read_parquet(where).equals(polars.from_arrow(ours))
    assert polars.scan_parquet(where).collect().equals(polars.from_arrow(ours))
    pattern = f"{where}/*.parquet" if name == "big" else where
    found = duckdb.sql(f"select * from read_parquet('{pattern}') order by set, replicate").fetchall()
    by_task = sorted(ours.to_pylist(), key=lambda row: (row["set"], row["replicate"]))
    assert sorted(map(str, found)) == sorted(str(tuple(row.values())) for row in by_task)


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_a_table_is_written_whole(study, tmp_path, to):
    path = tmp_path / "out"
    with path.open("wb") as stream, opened(study.location()) as tables:
        study_results.write_output(tables, "big", to, stream)
    if to == "parquet":
        assert pq.read_table(path).equals(results(study, "big"))
    else:
        assert path.read_text().count("\n") == 2401
        assert pandas.read_csv(path)["day"].sum() == 24 * 4950
