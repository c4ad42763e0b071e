"""Tables of return values in results/: right in DuckDB and pandas, also where tasks' types differ."""

import datetime
import decimal
import math

import duckdb
import numpy as np
import pandas as pd
import pytest

from modelops_dask.plan import spec
from modelops_dask.return_values.values import to_outputs
from modelops_dask.store import parts, study
from modelops_dask.store.compact import compact, read_manifest, table_names
from modelops_dask.store.files import Store
from modelops_dask.store.results import results
from modelops_dask.store.verify import verify
from store_helpers import DIGEST, attempt, begin
from value_shapes import CASES

IDENTITY = ["set", "replicate", "seed", "param_id", "param_a"]
ONE_SHOT = ("list: map", "list: generator", "list: generator of records")  # which test_values.py has used up
TABLES = {name: case for name, case in CASES.items() if not name.startswith("bytes") and name not in ONE_SHOT}


def store_values(folder, values):
    """A store in a folder with a task for each list of values, which are (name, value); compacted."""
    files = Store(str(folder))
    plan = begin(files, folder.parent, sets="[{a: 1}]", replicates=len(values))
    rows = [attempt(plan, 0, number, outputs=made) for number, made in enumerate(values)]
    parts.write(files, rows)
    compact(files, plan)
    return files


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Every case of test_values.py as outputs of one task, by the name of the case and of the output."""
    made = {}
    for name, (value, _) in TABLES.items():
        made |= {f"{name}/{output}": data for output, data in to_outputs(value).items()}
    return store_values(tmp_path_factory.mktemp("values") / "store", [made])


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(config={"autoinstall_known_extensions": "false", "threads": 1}) as connection:
        yield connection


def parquet_of(files, output):
    (table,) = [table for table, name in table_names(read_manifest(files)).items() if name == output]
    return files.location(f"results/{table}")


def cells(expected):
    """Columns of (outputs) that are tables, with rows."""
    for output, columns in expected.items():
        if isinstance(columns, dict) and columns and any(columns.values()):
            yield output, columns


def in_duckdb(value):
    """What DuckDB shows: durations are microseconds, for Parquet has no type for them."""
    if isinstance(value, datetime.timedelta):
        return value // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return value.astimezone(datetime.UTC)
    return [in_duckdb(item) for item in value] if isinstance(value, list) else value


def in_pandas(value):
    """What is missing is None, and arrays in cells are lists."""
    if isinstance(value, np.ndarray | list):
        return [in_pandas(item) for item in value]
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, datetime.datetime):
        return pd.Timestamp(value).tz_convert("UTC") if value.tzinfo else pd.Timestamp(value)
    return pd.Timedelta(value) if isinstance(value, datetime.timedelta) else value


def is_equal(value, other):
    return value == other or (value != value and other != other)


@pytest.mark.parametrize("group", sorted({name.partition(":")[0] for name in TABLES}))
def test_every_shape_is_right_in_duckdb_and_pandas(stored, connection, group):
    cases = [
        (name, output, columns)
        for name, (_, expected) in TABLES.items()
        if name.startswith(f"{group}:")
        for output, columns in cells(expected)
    ]
    for name, output, columns in cases:
        path = parquet_of(stored, f"{name}/{output}")
        table = connection.sql(f"select * from '{path}'").to_arrow_table()
        assert table.column_names == [*IDENTITY, *columns]
        for column, expected in columns.items():
            pairs = zip(table[column].to_pylist(), expected, strict=True)
            assert all(is_equal(in_duckdb(value), in_duckdb(other)) for value, other in pairs), table[column]
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
        for column, expected in columns.items():
            assert [*map(in_pandas, frame[column])] == [*map(in_pandas, expected)]


def test_the_store_of_every_shape_is_verified(stored):
    assert verify(stored.location()).findings == []


ACROSS = {  # the values of three tasks, the column of all of them
    "integers and floats": ([1], [2.5], [None]),
    "nothing first": ([None], ["a"], [None]),
    "an empty list": ([], [1], []),
    "widths": (np.array([1], "i1"), np.array([2**40]), np.array([3], "u2")),
    "single and double": (np.array([0.5], "f4"), np.array([0.25]), [1]),
    "without a sign": ([np.uint64(1)], [np.uint64(2**64 - 1)], np.array([3], "u1")),
    "lists": ([{"value": []}], [{"value": [1]}], [{"value": [0.5]}]),
    "nanoseconds": (
        [pd.Timestamp("2024-01-01")],
        [pd.Timestamp("2024-01-01 00:00:00.000000001")],
        [None],
    ),
    "decimals": ([decimal.Decimal("1.5")], [decimal.Decimal("100")], [decimal.Decimal("0.001")]),
    "missing": (pd.Series([0.5, None]), [1], [None]),
}


@pytest.mark.parametrize("name", ACROSS)
def test_types_that_differ_from_task_to_task_are_joined(tmp_path, name):
    values = ACROSS[name]
    made = [{"x": to_outputs(value)["result"]} for value in values]
    files = store_values(tmp_path / "store", made)
    expected = [item for value in values for item in pd_free(value)]
    table = results(files, "x")
    assert [in_pandas(v) for v in table["value"].to_pandas()] == [in_pandas(v) for v in expected]
    assert verify(files.location()).findings == []


def pd_free(value):
    """The cells of a value of ACROSS."""
    return [cell["value"] if isinstance(cell, dict) else cell for cell in list(value)]


def test_a_task_without_events_leaves_the_tables_of_the_others_as_they_are(tmp_path):
    tasks = [{"curve": [0.5] * 3, "events": [{"day": day} for day in range(n)]} for n in (2, 0, 1)]
    files = store_values(tmp_path / "store", [to_outputs(task) for task in tasks])
    assert sorted(table_names(read_manifest(files)).values()) == ["curve", "events"]
    assert results(files, "events")["day"].to_pylist() == [0, 1, 0]
    assert results(files, "curve")["replicate"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert verify(files.location()).findings == []


def test_tables_that_do_not_fit_together_are_kept_as_they_are(tmp_path):
    made = [to_outputs({"x": value, "y": [1]}) for value in ([1], ["a"])]
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path, sets="[{a: 1}]", replicates=2)
    parts.write(files, [attempt(plan, 0, number, outputs=data) for number, data in enumerate(made)])
    with pytest.raises(Exception, match="x is string and was int64 before"):
        compact(files, plan)
    (finding,) = verify(files.location()).findings
    assert finding.code == "MIXED" and "x is string and was int64 before" in finding.message


def test_replicates_that_are_equal_are_seen_through_the_form(tmp_path):
    """A table whose only difference is the task's own seed counts as equal."""
    files = Store(str(tmp_path / "store"))
    path = tmp_path / "study.yaml"
    path.write_text("name: s\nmodel: m.s\nscenario: b\nreplicates: 12\nsets: [{a: 1}]\n")
    plan = study.begin(files, spec.load(path), DIGEST)
    rows = [
        attempt(plan, 0, n, outputs=to_outputs([{"seed": plan.task(n).seed, "x": 1.5}])) for n in range(12)
    ]
    parts.write(files, rows)
    compact(files, plan)
    assert "replicates are equal" in verify(files.location()).warning
