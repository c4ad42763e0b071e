"""What a value becomes follows from itself alone: not from values before it, and exact whatever its type."""

import collections
import contextlib
import dataclasses
import datetime
import enum
import importlib.util
import random
import sys
import types

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr

from modelops_dask.return_values import neutral, values
from modelops_dask.return_values.values import to_outputs
from modelops_dask.store.tables import as_table
from modelops_dask.store.verify_neutral import read_neutral

DAY = datetime.date(2024, 2, 29)


def table_of(value, name="result"):
    return as_table(to_outputs(value)[name])


def make_rng(turn):
    seed = random.randrange(2**32)
    print("seed", seed, "turn", turn)
    return random.Random(seed)


# Tasks before


class Answer(enum.Enum):
    YES = True
    NO = False
    MAYBE = 0.5
    COUNT = 2**53 + 1


KINDS = [  # makers of scalars of one Python type whose kinds differ
    lambda rng: rng.choice([*Answer]),
    lambda rng: np.asarray(rng.choice([True, 5, 0.25, 2**53 + 1, "text"])),
    lambda rng: np.array(rng.choice(["2020-01-01", "NaT"]), rng.choice(["M8[ns]", "M8[D]"])),
    lambda rng: np.ma.array(rng.choice([True, 5, 0.25]), mask=rng.random() < 0.5),
    lambda rng: (xr.DataArray(np.arange(4), dims="t") * rng.choice([1, 0.5, True])).max(),
    lambda rng: pa.scalar(rng.choice([True, False, None]), pa.bool_()),
    lambda rng: pa.scalar(rng.choice([1, 2**62, None]), pa.int64()),
    lambda rng: pa.scalar(rng.choice([0.5, 2.0**60]), pa.float64()),
    lambda rng: rng.choice([1, True, 0.5, None, "text", 2**63]),
    lambda rng: rng.choice([np.uint64(3), np.uint64(2**63), np.int8(-1), np.bool_(False), np.float32(0.1)]),
    lambda rng: rng.choice([pd.Timestamp(5), pd.NaT, pd.NA, DAY]),
]


@contextlib.contextmanager
def new_modules():
    """to_outputs() of a new interpreter, as far as our modules go: they are loaded by path once more."""
    known = {name: sys.modules.pop(name) for name in [*sys.modules] if name.startswith("_modelops_")}
    try:
        spec = importlib.util.spec_from_file_location("_modelops_values", values.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module.to_outputs
    finally:
        for name in [name for name in sys.modules if name.startswith("_modelops_")]:
            del sys.modules[name]
        sys.modules.update(known)


def outcome(to_outputs, value):
    try:
        return to_outputs(value)
    except TypeError as refusal:
        return str(refusal)


@pytest.mark.parametrize("turn", range(3))
def test_a_row_does_not_depend_on_the_rows_before_it(turn):
    rng = make_rng(turn)
    for _ in range(150):
        row = {name: rng.choice(KINDS)(rng) for name in rng.choice(["a", "ab"])}
        with new_modules() as anew:
            assert outcome(to_outputs, row) == outcome(anew, row), row


BEFORE = {  # rows of one process, and the last of them as a table
    "floats of xarray, then integers": ([{"n": xr.DataArray(0.5)}, {"n": xr.DataArray(3)}], {"n": [3]}),
    "truth, then a float": ([{"x": np.asarray(True)}, {"x": np.asarray(0.25)}], {"x": [0.25]}),
    "a float, then a large integer": ([{"x": np.array(0.5)}, {"x": np.array(2**53 + 1)}], {"x": [2**53 + 1]}),
    "truth, then nothing": ([{"x": pa.scalar(True)}, {"x": pa.scalar(None, pa.bool_())}], {"x": [None]}),
    "an integer, then nothing": ([{"x": pa.scalar(1)}, {"x": pa.scalar(None, pa.int64())}], {"x": [None]}),
    "members of an Enum": ([{"x": Answer.COUNT}, {"x": Answer.MAYBE}], {"x": [0.5]}),
}


@pytest.mark.parametrize("name", BEFORE)
def test_scalars_of_one_python_type_keep_their_kinds(name):
    rows, expected = BEFORE[name]
    outputs = [to_outputs(row) for row in rows]
    assert repr(as_table(outputs[-1]["result"]).to_pydict()) == repr(expected), "3 and 3.0 are equal"


def test_only_types_that_fix_the_kind_of_their_values_take_the_short_way():
    for value in (
        True,
        1,
        0.5,
        np.bool_(0),
        np.int8(1),
        np.uint8(1),
        np.uint64(1),
        np.float16(1),
        np.float64(1),
    ):
        assert values._quick_row({"x": value}) == values._encode("result", {"x": value})
    for value in (
        Answer.NO,
        np.array(1),
        pa.scalar(1),
        xr.DataArray(1),
        np.longdouble(1),
        np.timedelta64(1, "s"),
    ):
        assert values._quick_row({"x": value}) is None


@pytest.mark.parametrize(
    "wrap", [lambda n: {"n": n}, lambda n: [n], lambda n: {"a": [n, None], "b": [1, 2]}, lambda n: n]
)
@pytest.mark.parametrize(
    "make",
    [
        np.uint64,
        lambda n: np.array(n, "u8"),
        lambda n: pa.scalar(n, pa.uint64()),
        lambda n: xr.DataArray(np.uint64(n)),
    ],
    ids=["numpy", "array", "arrow", "xarray"],
)
def test_integers_without_a_sign_are_of_one_type_whatever_they_are(make, wrap):
    types = [table_of(wrap(make(n))).schema.field(0).type for n in (0, 1, 2**63, 2**64 - 1)]
    assert types == [pa.uint64()] * 4


def test_integers_without_a_sign_among_others():
    assert table_of({"a": [np.uint64(1), -1]})["a"].to_pylist() == [1, -1]
    assert table_of({"a": [np.uint64(1), 0.5]})["a"].to_pylist() == [1.0, 0.5]
    assert table_of([{"a": np.array([1], "u8")}])["a"].type == pa.list_(pa.uint64())


# Times


UNITS = {"W": 604_800 * 10**9, "D": 86_400 * 10**9, "h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9}
UNITS |= {"ms": 10**6, "us": 1000, "ns": 1}


def nanoseconds_of(table):
    """The values of a column of times or dates as integers."""
    column = table["value"]
    factor = {pa.date32(): 86_400 * 10**9}.get(column.type) or {"us": 1000, "ns": 1}[column.type.unit]
    counts = column.cast(pa.int32() if column.type == pa.date32() else pa.int64()).to_pylist()
    return [None if count is None else count * factor for count in counts]


def random_count(rng):
    return rng.choice(
        [0, 1, -1, rng.getrandbits(rng.randrange(1, 63)), -rng.getrandbits(rng.randrange(1, 63))]
    )


@pytest.mark.parametrize("turn", range(3))
def test_times_of_numpy_are_exact_or_refused(turn):
    """Of each unit and multiple, in arrays, in cells, alone and in lists of several units."""
    rng = make_rng(turn)
    n_stored = 0
    for _ in range(400):
        letter, one_unit = rng.choice("mM"), rng.choice([*UNITS])
        units = [one_unit] * 4 if rng.random() < 0.5 else [rng.choice([*UNITS]) for _ in range(4)]
        multiple = rng.choice([1, 1, 25])
        n = 1 if rng.random() < 0.3 else rng.randrange(2, 5)
        scalars, expected = [], []
        for unit in units[:n]:
            count = random_count(rng)
            scalars.append(np.array(count, f"{letter}8[{multiple}{unit}]")[()])
            expected.append(count * multiple * UNITS[unit])
        if len(set(units)) == 1:
            array = np.array(scalars, scalars[0].dtype)
            value = rng.choice([array, scalars, array.astype(array.dtype.newbyteorder(">"))])
        else:
            value = scalars
        try:
            data = to_outputs(value)["result"]
        except TypeError as refusal:
            assert "fit into" in str(refusal) or "cover the years 1677" in str(refusal)
            assert max(map(abs, expected)) > 2**62
            continue
        n_stored += 1
        assert read_neutral(data).schema == as_table(data).schema, "canonical"
        assert nanoseconds_of(as_table(data)) == expected
    assert n_stored > 100


SHAPES_OF_TIMES = {
    "no dimension": lambda array: array[0].reshape(()) if array.ndim else array,
    "a row": lambda array: {"value": np.array(array[0], array.dtype)},
    "a row with others": lambda array: {"value": np.array(array[0], array.dtype), "text": "x"},
    "a list of no dimension": lambda array: [np.array(item, array.dtype) for item in array],
    "xarray": lambda array: xr.DataArray(array, dims="t").max(),
    "a dataset": lambda array: xr.Dataset({"value": ((), array[0])}),
    "a scalar of arrow": lambda array: pa.array(array)[0],
}


@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[ns]", "M8[us]", "M8[s]"])
@pytest.mark.parametrize("shape", SHAPES_OF_TIMES)
def test_times_without_dimensions_are_times(shape, dtype):
    array = np.array([10**9], dtype)
    kinds = {"M": pa.types.is_timestamp, "m": pa.types.is_duration}
    table = table_of(SHAPES_OF_TIMES[shape](array))
    assert kinds[dtype[0]](table["value"].type)
    assert nanoseconds_of(table) == [10**9 * UNITS[dtype[3:-1]]]


DICTIONARIES = {
    "timestamp": pa.timestamp("ns"),
    "with a zone": pa.timestamp("ns", "Europe/Berlin"),
    "duration": pa.duration("ns"),
    "time of day": pa.time64("ns"),
}


@pytest.mark.parametrize("name", DICTIONARIES)
def test_chunks_of_dictionaries_keep_nanoseconds(name):
    counts = [10**9, 1, 2000, None]
    chunks = [pa.array([count], DICTIONARIES[name]).dictionary_encode() for count in counts]
    data = to_outputs(pa.chunked_array(chunks))["result"]
    column = as_table(data)["value"]
    assert column.cast(pa.int64()).to_pylist() == counts and column.type.unit == "ns"
    assert read_neutral(data).schema == as_table(data).schema


def test_nanoseconds_of_categories_that_no_row_has_are_not_needed():
    dictionary = pa.array([1, 1000], pa.timestamp("ns"))
    indices = pa.array([1, 1], pa.int8())
    for value in (
        pa.DictionaryArray.from_arrays(indices, dictionary),
        pd.Series(pd.Categorical.from_codes([1, 1], dictionary.to_pandas())),
    ):
        data = to_outputs(value)["result"]
        assert data == to_outputs(pa.array([1000, 1000], pa.timestamp("ns")))["result"]
        read_neutral(data)


# Generators that change what they have yielded


@dataclasses.dataclass
class State:
    S: int
    path: list


def yield_dict():
    state = {"S": 0}
    for _ in range(3):
        state["S"] += 1
        yield state


def yield_list():
    state = [0, 5]
    for _ in range(3):
        state[0] += 1
        yield state


def yield_array():
    state = np.zeros(2)
    for _ in range(3):
        state += 1
        yield state


def yield_object():
    state = State(0, [])
    for _ in range(3):
        state.S += 1
        state.path.append(state.S)
        yield state


def yield_nested():
    state = {"S": np.zeros(()), "path": [0], "pair": ([0],), "bytes": bytearray(1)}
    for _ in range(3):
        state["S"] += 1
        state["path"][0] += 1
        state["pair"][0][0] += 1
        state["bytes"][0] += 1
        yield state


def yield_namespace():
    state = types.SimpleNamespace(S=0)
    for _ in range(3):
        state.S += 1
        yield state


def yield_row():
    array = np.zeros(1, [("S", "i8")])
    for _ in range(3):
        array["S"] += 1
        yield array[0]


def yield_counter():
    state = collections.Counter()
    for _ in range(3):
        state["S"] += 1
        yield state


CHANGING = {
    yield_dict: {"S": [1, 2, 3]},
    yield_list: {"column_0": [1, 2, 3], "column_1": [5, 5, 5]},
    yield_array: {"column_0": [1.0, 2.0, 3.0], "column_1": [1.0, 2.0, 3.0]},
    yield_object: {"S": [1, 2, 3], "path": [[1], [1, 2], [1, 2, 3]]},
    yield_nested: {
        "S": [1.0, 2.0, 3.0],
        "path": [[1], [2], [3]],
        "pair": [[[1]], [[2]], [[3]]],
        "bytes": [b"\1", b"\2", b"\3"],
    },
    yield_namespace: {"S": [1, 2, 3]},
    yield_row: {"S": [1, 2, 3]},
    yield_counter: {"S": [1, 2, 3]},
}


@pytest.mark.parametrize("generator", CHANGING, ids=lambda generator: generator.__name__)
def test_what_a_generator_changes_later_is_stored_as_it_was_yielded(generator):
    assert table_of(generator()).to_pydict() == CHANGING[generator]
    assert table_of({"rows": generator(), "n": 3}, "rows").to_pydict() == CHANGING[generator]
    assert table_of((1, iter(generator())), "result_1").to_pydict() == CHANGING[generator]


def test_a_generator_that_also_returns_is_refused_by_name():
    def simulate():
        yield {"day": 1}
        return {"total": 5}

    for value, name in ((simulate(), "result"), ({"days": simulate(), "n": 1}, "days")):
        with pytest.raises(TypeError, match=f"output '{name}' is a generator that also returns a dict"):
            to_outputs(value)


def test_an_error_of_the_models_generator_is_its_own():
    def simulate():
        yield 1
        raise RecursionError("mine")

    with pytest.raises(RecursionError, match="mine"):
        to_outputs(simulate())


# Lists that are empty in some tasks


@pytest.mark.parametrize("others", [{"curve": [1, 2, 3]}, {"curve": np.ones(3), "days": [1, 2, 3]}, {"n": 1}])
def test_a_task_without_events_has_the_outputs_of_the_others(others):
    some, none = ({**others, "events": events} for events in ([{"day": 3}], []))
    assert to_outputs(none).keys() == to_outputs(some).keys()
    assert table_of(none, "events").num_rows == 0
    kept = [name for name in to_outputs(some) if name != "events"]
    assert [to_outputs(none)[name] for name in kept] == [to_outputs(some)[name] for name in kept]
    as_generator = {**others, "events": ({"day": day} for day in ())}
    assert to_outputs(as_generator) == to_outputs(none)


def test_empty_lists_alone_are_columns_without_rows():
    for value in ({"deaths": [], "events": []}, {"curve": np.zeros(0), "events": []}, {"events": []}):
        assert table_of(value).column_names == [*value] and table_of(value).num_rows == 0


def test_an_array_that_is_empty_among_longer_ones_is_refused():
    with pytest.raises(TypeError, match=r"unequal length \(a 2, b 0; 'b' is empty\)"):
        to_outputs({"a": np.ones(2), "b": np.zeros(0)})


# Objects of polars


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pl.Object, True),
        (pl.Object(), True),
        (pl.List(pl.Object), True),
        (pl.Struct({"a": pl.Object}), True),
        (pl.Enum(["Object"]), False),
        (pl.Struct({"Object": pl.Int8}), False),
        (pl.List(pl.Int8), False),
    ],
)
def test_a_type_of_polars_that_has_objects(dtype, expected):
    assert values._has_objects(dtype) is expected


# Anything


ATOMS = [
    None, True, 3, 2**64, 0.5, float("nan"), "a", b"b", 1j, DAY, Answer.NO, np.float32(1), np.uint64(2),
    np.longdouble(1), np.datetime64(1, "ns"), np.timedelta64(3), np.void(b"x"), np.array(1),
    np.array("2020", "M8[ns]"), np.zeros(2), np.zeros(0), np.zeros((2, 2)), np.zeros((1, 1, 1)),
    np.zeros(2, "V3"), np.zeros(2, [("a", "i4", (2,))]), np.zeros(2, [("a", "i4"), ("b", "M8[ns]")])[0],
    np.array([1, "a", None], object), np.array({"a": 1}, object), np.ma.masked, np.ma.array(1, mask=True),
    np.ma.array([1, 2], mask=[0, 1]), pd.NA, pd.NaT, pd.Timestamp(1), pd.Series([1, 2], index=["a", "b"]),
    pd.DataFrame({"a": [1]}), pd.array([1, None]), pd.Categorical(["a", None]), pd.Index([1, 2]),
    pl.Series([1, 2]), pl.DataFrame({"a": [1]}), pl.col("a"), pa.array([1, None]), pa.scalar(1),
    pa.scalar([1, 2]), pa.table({"a": [1]}), xr.DataArray(1), xr.DataArray(b"x"), np.array(b"x"),
    xr.DataArray([1, 2]), range(2), {1, 2},
    object, len,
]  # fmt: skip


def random_value(rng, depth=0):
    kind = rng.randrange(6) if depth < 4 else 0
    if kind < 3:
        return rng.choice(ATOMS)
    n = rng.choice([0, 1, 2, 2, 3])
    if kind == 3:
        return {rng.choice(["a", "b", "result", 1, ("x", 2)]): random_value(rng, depth + 1) for _ in range(n)}
    items = [random_value(rng, depth + 1) if rng.random() < 0.3 else rng.choice(ATOMS) for _ in range(n)]
    items = items[:1] * n if rng.random() < 0.5 else items
    return rng.choice([items, tuple(items), iter(items)])


@pytest.mark.parametrize("turn", range(4))
def test_any_value_is_stored_canonically_or_refused_by_the_outputs_name(turn):
    rng = make_rng(turn)
    for _ in range(500):
        state = rng.getstate()
        value = random_value(rng)
        try:
            outputs = to_outputs(value)
        except TypeError as refusal:
            assert str(refusal).startswith("output"), (value, state)
            continue
        for data in outputs.values():
            if data.startswith(neutral.MAGIC):
                assert read_neutral(data).schema == as_table(data).schema
