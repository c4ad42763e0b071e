"""Columns of several tasks in one table: no value is changed, and what does not fit is named and kept."""

import contextlib
import datetime as dt
import math
import random
from decimal import Decimal

import pyarrow as pa
import pytest

from modelops_dask.store import parts
from modelops_dask.store.compact import MixedOutputs, compact, read_manifest
from modelops_dask.store.files import Store
from modelops_dask.store.results import results
from modelops_dask.store.tables import TableFile, as_table
from modelops_dask.store.verify import verify
from store_helpers import attempt, begin, parquet, read_parquet, table_path


def build(folder, tables, flush_tasks=4096, sets="[{a: 1}]"):
    """A store whose task 0/i returned tables[i]; its table, or None, and the problems of its results."""
    files = Store(str(folder / "store"))
    plan = begin(files, folder, sets=sets, replicates=len(tables))
    rows = [attempt(plan, 0, number, outputs={"t": parquet(table)}) for number, table in enumerate(tables)]
    parts.write(files, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelops_dask.store.compact._FLUSH_TASKS", flush_tasks)
        with contextlib.suppress(MixedOutputs):
            compact(files, plan)
    problems = read_manifest(files)["problems"]
    findings = [each for each in verify(files.location()).findings if each.code != "UNFINISHED"]
    assert [(each.code, each.message) for each in findings] == [("MIXED", problem) for problem in problems]
    return (None if len(problems) == len(tables) else results_table(files)), problems


def results_table(files):
    return read_parquet(files, table_path(files, "model_outputs/t.parquet"))


def column(values, kind=None):
    return pa.table({"x": pa.array(values, kind)})


BIG, LARGEST = 2**53 + 1, 2**64 - 1
JOINED = {  # what tasks return, what the table has, its type
    "no rows, then text": ([column([], pa.float64()), column(["a"])], ["a"], pa.string()),
    "text, then no values": ([column(["a"]), column([None], pa.float64())], ["a", None], pa.string()),
    "NaT and text": ([column([None], pa.timestamp("us")), column(["a"])], [None, "a"], pa.string()),
    "no values anywhere": ([column([None], pa.float64())] * 2, [None, None], pa.float64()),
    "no values, by two types": (
        [column([None], pa.string()), column([None], pa.float64())],
        [None, None],
        pa.float64(),
    ),
    "large integers and no values": (
        [column([BIG]), column([None], pa.float64())],
        [BIG, None],
        pa.int64(),
    ),
    "lists without items": (
        [column([[], None], pa.list_(pa.float64())), column([[dt.date(2020, 1, 1)]])],
        [[], None, [dt.date(2020, 1, 1)]],
        pa.list_(pa.date32()),
    ),
    "unsigned and signed": ([column([1], pa.uint64()), column([-1])], [1, -1], pa.int64()),
    "signed and large": ([column([1]), column([LARGEST], pa.uint64())], [1, LARGEST], pa.uint64()),
    "large and signed": ([column([LARGEST], pa.uint64()), column([1])], [LARGEST, 1], pa.uint64()),
    "lists of both": (
        [column([[1]]), column([[LARGEST]], pa.list_(pa.uint64()))],
        [[1], [LARGEST]],
        pa.list_(pa.uint64()),
    ),
    "small ones": ([column([-1], pa.int8()), column([255], pa.uint8())], [-1, 255], pa.int16()),
    "decimals of other scales": (
        [column([Decimal("1.5")], pa.decimal128(38, 1)), column([Decimal("1.125")], pa.decimal128(38, 3))],
        [Decimal("1.500"), Decimal("1.125")],
        pa.decimal128(38, 3),
    ),
    "decimals and integers": (
        [column([7]), column([Decimal("0.5")], pa.decimal128(38, 25))],
        [Decimal(7), Decimal("0.5")],
        pa.decimal128(38, 25),
    ),
    "decimals that floats hold": ([column([0.1]), column([Decimal("0.5")])], [0.1, 0.5], pa.float64()),
    "integers and floats": ([column([1]), column([0.5])], [1.0, 0.5], pa.float64()),
}


@pytest.mark.parametrize("flush_tasks", [1, 4096])  # the table before is written already, or not yet
@pytest.mark.parametrize(("tables", "values", "kind"), JOINED.values(), ids=JOINED)
def test_columns_of_several_types_are_joined_without_changing_a_value(
    tables, values, kind, flush_tasks, tmp_path
):
    table, problems = build(tmp_path, tables, flush_tasks)
    assert problems == []
    assert table["x"].to_pylist() == values and table.schema.field("x").type == kind


MIXED = {
    "decimals that floats round": ([column([0.5]), column([Decimal("12345678901234567890.12")])], "decimal"),
    "the same in lists": ([column([[0.5]]), column([[Decimal("0.1")]])], "list"),
    "floats among decimals": ([column([Decimal("0.1")]), column([0.5])], "was decimal128"),
    "large decimals of another scale": (
        [column([Decimal("9" * 38)]), column([Decimal("0.001")], pa.decimal128(38, 3))],
        "x is decimal128",
    ),
    "negative and large": ([column([-1]), column([LARGEST], pa.uint64())], "x is uint64 and was int64"),
    "large and negative": ([column([LARGEST], pa.uint64()), column([-1])], "x is int64 and was uint64"),
    "integers that floats round": ([column([BIG]), column([0.5])], "x is double and was int64 before, and"),
    "text after numbers after nothing": (
        [column([None], pa.float64()), column([0.5]), column(["a"])],
        "x is string and was double before",
    ),
}


@pytest.mark.parametrize("flush_tasks", [1, 4096])
@pytest.mark.parametrize(("tables", "problem"), MIXED.values(), ids=MIXED)
def test_columns_that_cannot_be_joined_exactly_name_the_column(tables, problem, flush_tasks, tmp_path):
    table, problems = build(tmp_path, tables, flush_tasks)
    assert len(problems) == 1 and problem in problems[0], problems
    assert table.num_rows == len(tables) - 1


def random_column(rng):
    """A column of a random type with random values, as models and their libraries return them."""
    makers = {
        pa.int8(): lambda: rng.randrange(-128, 128),
        pa.uint16(): lambda: rng.randrange(2**16),
        pa.int64(): lambda: rng.choice([rng.randrange(-5, 5), rng.randrange(-(2**63), 2**63)]),
        pa.uint64(): lambda: rng.choice([rng.randrange(5), rng.randrange(2**64)]),
        pa.float64(): lambda: rng.choice([0.5, 0.1, 3.0, math.inf, 1e300]),
        pa.string(): lambda: rng.choice(["", "a", "1"]),
        pa.bool_(): lambda: rng.random() < 0.5,
        pa.decimal128(38, 2): lambda: Decimal(rng.randrange(-(10**30), 10**30)) / 100,
        pa.decimal128(6, 3): lambda: Decimal(rng.randrange(1000)) / 1000,
        pa.timestamp("us"): lambda: dt.datetime(2020, 1, 1 + rng.randrange(9)),
        pa.list_(pa.int64()): lambda: [rng.randrange(2**60) for _ in range(rng.randrange(3))],
        pa.list_(pa.float64()): lambda: [0.5] * rng.randrange(2),
    }
    kind = rng.choice(list(makers))
    blank = rng.choice([0.0, 0.3, 1.0])
    return pa.array([None if rng.random() < blank else makers[kind]() for _ in range(rng.randrange(4))], kind)


@pytest.mark.parametrize("seed", range(12))
def test_every_value_is_in_the_table_or_its_task_is_named(seed, tmp_path):
    """Values are compared in Python, which compares numbers of all kinds exactly."""
    print("seed", seed)
    rng = random.Random(seed)
    families = rng.sample(["x", "y", "seed", "seed_model", "param_a", "param_a_model"], 3)
    tables = []
    for _ in range(8):
        columns = [random_column(rng) for _ in families]
        n_rows = min(map(len, columns))
        names = rng.sample(families, rng.randrange(1, 4))
        tables.append(pa.table(dict(zip(names, [each.slice(0, n_rows) for each in columns], strict=False))))
    table, problems = build(tmp_path, tables, rng.choice([1, 3, 4096]))
    named = {int(problem.partition("task 0/")[2].partition(":")[0]) for problem in problems}
    joined = [each for number, each in enumerate(tables) if number not in named]
    fitting = {name for each in joined for name in each.column_names}
    renamed = {}
    for name in sorted({"seed", "param_a"} & fitting):
        renamed[name] = f"{name}_model_model" if f"{name}_model" in fitting else f"{name}_model"
    for name in fitting:
        expected = [
            value
            for each in joined
            for value in (each[name].to_pylist() if name in each.column_names else [None] * each.num_rows)
        ]
        assert table[renamed.get(name, name)].to_pylist() == expected


def test_the_names_of_columns_are_the_same_for_all_tasks(tmp_path):
    tables = [pa.table({"seed": [1]}), pa.table({"seed": [2], "seed_model": [99]})]
    for number, order in enumerate((tables, tables[::-1])):
        for flush_tasks in (1, 4096):
            folder = tmp_path / f"{number}-{flush_tasks}"
            folder.mkdir()
            table, problems = build(folder, order, flush_tasks)
            rows = table.select(["seed_model_model", "seed_model"]).to_pylist()
            assert problems == []
            assert sorted(rows, key=str) == [
                {"seed_model_model": 1, "seed_model": None},
                {"seed_model_model": 2, "seed_model": 99},
            ]


@pytest.mark.parametrize(
    ("sets", "columns"),
    [
        ("[{id: 5}]", {"param_id_": 5}),
        ("[{id: 5, id_: 6}]", {"param_id__": 5, "param_id_": 6}),
        ("[{a: 5, a_model: 6}]", {"param_a": 5, "param_a_model": 6}),
        ("[{n: 9007199254740993}, {n: 0.5}]", {"param_n": "9007199254740993"}),
        ("[{n: 9007199254740993}, {n: 1}]", {"param_n": 2**53 + 1}),
        ("[{n: 9007199254740992}, {n: 0.5}]", {"param_n": 2.0**53}),
    ],
)
def test_each_parameter_has_a_column_of_its_own_with_its_value(sets, columns, tmp_path):
    own = {"param_a": [1], "param_a_model": [2], "param_id_": [3], "set": [4]}
    table, problems = build(tmp_path, [pa.table(own)], sets=sets)
    assert problems == [] and len(set(table.column_names)) == table.num_columns == 8 + len(columns)
    row = table.to_pylist()[0]
    assert {name: row[name] for name in columns} == columns
    assert [row[name] for name in table.column_names[-4:]] == [1, 2, 3, 4]
    assert results(str(tmp_path / "store"), "t").num_rows == 1


def test_a_table_without_columns_is_a_table(tmp_path):
    table, problems = build(tmp_path, [pa.table({}), pa.table({})])
    assert problems == [] and table.num_rows == 0
    assert table.column_names == ["set", "replicate", "seed", "param_id", "param_a"]


def test_tables_that_add_nothing_are_joined_to_none(monkeypatch):
    """Also those with columns without values, of which studies have many."""
    joined = []
    monkeypatch.setattr(TableFile, "_join", lambda _, table: joined.append(table))
    file = TableFile.__new__(TableFile)
    file._types, file._declared = {"x": pa.string()}, {"x": {pa.float64()}}
    file._joined = file._schema = pa.schema([("x", pa.string())])
    file._indices, file._tables = [], []
    for table in (column(["a"]), column([None], pa.float64()), column([None], pa.string())):
        file.add(0, table)
    assert joined == []
    file.add(0, column([0.5]))
    assert len(joined) == 1


def test_a_table_is_read_as_it_was_written():
    assert as_table(parquet(column([BIG])))["x"].to_pylist() == [BIG]
