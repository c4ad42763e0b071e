"""What a function returns becomes tables and bytes by the rule in docs/return-values.md, or is refused."""

import collections
import dataclasses
import datetime
import decimal
import fractions
import io
import pathlib
import random
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import xarray as xr

import value_cases
import value_versions
from modelops_dask.return_values import values
from modelops_dask.return_values.values import to_outputs
from modelops_dask.store.tables import as_table
from modelops_dask.store.verify_neutral import read_neutral
from value_shapes import BERLIN, CASES, DAY, LATE, NAN, NOON, frame


def content(data):
    """A table's columns; other bytes as they are."""
    table = as_table(data)
    return data if table is None else table.to_pydict()


def same(value, other):
    """Equal, with NaN equal to itself, and of one type."""
    if isinstance(value, dict):
        return (
            isinstance(other, dict) and [*value] == [*other] and all(same(value[k], other[k]) for k in value)
        )
    if isinstance(value, list):
        return isinstance(other, list) and len(value) == len(other) and all(map(same, value, other))
    return type(value) is type(other) and (value == other or (value != value and other != other))


@pytest.mark.parametrize("name", CASES)
def test_a_value_becomes_what_the_rule_says(name):
    value, expected = CASES[name]
    outputs = to_outputs(value)
    contents = {name: content(data) for name, data in outputs.items()}
    assert (
        same(contents, {name: expected[name] for name in contents}) and contents.keys() == expected.keys()
    ), contents
    for data in outputs.values():
        if data.startswith(b"\x89"):
            assert same(read_neutral(data).to_pydict(), as_table(data).to_pydict())
            assert read_neutral(data).schema == as_table(data).schema, "the two readers agree"


class Sim:
    """An object as packages return them."""

    def to_df(self):
        return frame()


class Handle:
    def __float__(self):
        return 1.0


class Quantity(np.ndarray):
    """As astropy's: an array with a unit."""

    unit = "km"

    def to(self, unit):
        return self


@dataclasses.dataclass
class Nested:
    inner: dict


HOLDS_ITSELF: list = []
HOLDS_ITSELF.append(HOLDS_ITSELF)


def square(x):
    return x * x


# name -> what is returned, words that the refusal has
REFUSALS = {
    "None": (None, "output 'result' is None: does the function return"),
    "NA": (pd.NA, "is None"),
    "masked": (np.ma.masked, "is None"),
    "complex": (1 + 2j, "a complex, which is not stored: return {'real': value.real, 'imag': value.imag}"),
    "complex in a row": ({"a": 1.0, "b": 1j}, "output 'result', column 'b' is a complex"),
    "complex array": (np.array([1j]), "is a complex"),
    "complex series": (pd.Series([1j], name="z"), "column 'z' is a complex"),
    "long double": (np.longdouble(1), "a longdouble (numpy), which is not stored"),
    "long doubles": (np.ones(2, np.longdouble), "a longdouble (numpy)"),
    "a long double in a row": ({"a": np.longdouble(1)}, "column 'a' is a longdouble (numpy), which is not"),
    "advice on a long double": (np.longdouble(1), "return float(longdouble)"),
    "a long double of xarray": ({"a": xr.DataArray(np.longdouble(1))}, "column 'a' is a longdouble"),
    "bytes without a type": (np.zeros(2, "V4"), "a void (numpy), which is not stored: return void.tobytes()"),
    "bytes of xarray": ({"x": xr.DataArray(b"x")}, "output 'x' is a bytes_ (numpy)"),
    "bytes without a type or dimension": (np.zeros((), "V4"), "a void (numpy)"),
    "a field with fields": (np.zeros(2, [("a", [("b", "f8")])]), "column 'a' is a void (numpy)"),
    "a field with a matrix": (np.zeros(2, [("a", "f8", (2, 2))]), "column 'a' is a field with 2 dimensions"),
    "fields in a cell": ([{"a": np.zeros(2, [("b", "f8")])}], "column 'a' is a structured array in a cell"),
    "a unit in a cell": ([{"x": np.ones(2).view(Quantity)}], "column 'x' is a Quantity"),
    "units in rows": ([np.ones(2).view(Quantity)], "in the unit km, which would be lost"),
    "set": ({1, 2}, "return sorted(value)"),
    "set in an entry": ({"a": 1, "seen": frozenset([1])}, "output 'seen' is a frozenset"),
    "path": (pathlib.Path("x.csv"), "a PosixPath, which is not stored: return path.read_bytes()"),
    "path in a column": ([{"p": pathlib.Path("x")}], "column 'p' is a PosixPath"),
    "file": (io.BytesIO(), "return value.getvalue()"),
    "sparse matrix": (scipy.sparse.eye(2).tocsr(), "return csr_matrix.toarray()"),
    "a function": (square, "call it"),
    "a class": (Sim, "call it"),
    "an exception": (ValueError("x"), "raise it"),
    "an object": (object(), "return the data that you need from it"),
    "a fraction": (fractions.Fraction(1, 2), "return float(fraction)"),
    "an object with a method": (Sim(), ", which is not stored: return sim.to_df()"),
    "an object in an entry": ({"sim": Sim(), "n": 1}, "output 'sim' is a Sim"),
    "an object that is a number": (Handle(), "return float(handle)"),
    "groups": (frame().groupby("n"), "DataFrameGroupBy (pandas)"),
    "a large integer": (2**64, "18,446,744,073,709,551,616, which does not fit into 64 bits"),
    "large and negative integers": ([2**63, -1], "does not fit into 64 bits"),
    "an integer that no float is": ([0.5, 2**53 + 1], "mixes floats with the integer 9007199254740993"),
    "numbers and text": ([1, "a"], "mixes integers and text"),
    "NaN for missing text": ({"s": ["a", NAN]}, "return None in its place"),
    "truth and numbers": ({"x": [True, 2]}, "column 'x' mixes booleans and integers"),
    "objects of two types": (
        pd.DataFrame({"o": [1, "a"]}, dtype=object),
        "column 'o' mixes integers and text",
    ),
    "times with and without a zone": (
        [NOON, NOON.replace(tzinfo=BERLIN)],
        "mixes times with and without a time zone",
    ),
    "dates and times": ([DAY, NOON], "mixes date and datetime"),
    "time of day with a zone": (LATE.replace(tzinfo=BERLIN), "times of day with a time zone"),
    "Decimal without a value": (decimal.Decimal("NaN"), "return None or floats"),
    "a long Decimal": (decimal.Decimal(10) ** 40, "more than 38 digits"),
    "three dimensions": (np.zeros((2, 3, 4)), "has 3 dimensions (2 x 3 x 4)"),
    "three dimensions of lists": ([[[1]]], "three dimensions or more"),
    "lists of unequal length": ({"a": [1], "b": [1, 2]}, "unequal length (a 1, b 2)"),
    "a tuple of unequal lists": (([1], [1, 2]), "unequal length"),
    "rows of unequal length": ([[1], [1, 2]], "lists of 1 to 2 items"),
    "dicts and numbers": ([{"a": 1}, 2], "mixes dict and int"),
    "a list of tables": ([frame(), frame()], "items are each a DataFrame (pandas): return a dict"),
    "a list of Series": ([pd.Series([1])], "items are each a Series (pandas)"),
    "a dict in a dict in a dict": ({"a": {"b": {"c": 1}}}, "output 'a' is a dict whose entry 'b' is a dict"),
    "a table in a dict in a dict": (
        {"a": {"b": frame()}},
        "output 'a' is a dict whose entry 'b' is a DataFrame",
    ),
    "a dict in a record": ([{"a": {"b": 1}}], "column 'a' is a dict, which is not stored: flatten it"),
    "a dataclass in a record": (
        [{"a": Nested({})}],
        "is a Nested (tests), which is not stored: flatten",
    ),
    "a list that holds itself": (HOLDS_ITSELF, "a list that holds itself"),
    "a list that holds itself in a record": ([{"a": HOLDS_ITSELF}], "column 'a' has lists"),
    "an empty list in a dict in a dict": ({"x": {"a": [1], "b": []}}, "(a 1, b 0; 'b' is empty)"),
    "a dataclass with a dict of dicts": (Nested({"a": {"b": 1}}), "output 'inner' is a dict whose entry 'a'"),
    "names that are equal as text": ({1: 1, "1": 2}, "two names that are the same as text"),
    "columns that are equal as text": (pd.DataFrame([[1, 2]], columns=[1, "1"]), "two columns named '1'"),
    "columns twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns named 'a'"),
    "Series with two indexes": (
        {"a": pd.Series([1], index=["p"]), "b": pd.Series([1], index=["q"])},
        "Series with different indexes",
    ),
    "scalars without a name": (
        {"result": frame(), "scalars": frame(), "n": 1},
        "outputs 'result' and 'scalars' are both taken, and n would",
    ),
    "a struct in a dict": ({"s": pl.Series([{"a": 1}])}, "column 's' is a struct"),
    "a struct that is null": (pa.array([{"a": 1}, None]), "structs that are entirely null"),
    "a struct of polars": (pl.DataFrame({"s": [{"a": 1}]}), "column 's' is a struct"),
    "an object of polars": (
        pl.DataFrame({"s": [pl.DataFrame()]}, schema={"s": pl.Object}),
        "output 'result'",
    ),
    "an expression of polars": (pl.col("a"), "is an Expr (polars), which is not stored"),
    "groups of polars": (
        pl.DataFrame({"a": [1]}).group_by("a"),
        "is a GroupBy (polars), which is not stored",
    ),
    "an extension of arrow": (pa.array([1], pa.int8()).cast(pa.bool8()), "the type arrow.bool8"),
    "a map of arrow": (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "is a map"),
    "a union of arrow": (
        pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
        "is a union",
    ),
    "half a character": ("a\ud800", "lone surrogate"),
    "half a character in a name": ({"a\ud800": 1}, "lone surrogate"),
    "a unit": (np.ones(2).view(Quantity), "in the unit km, which would be lost"),
    "years of durations": (np.array([1], "m8[Y]"), "return numbers, with the unit in the name"),
    "a duration without a unit": (np.array([3], "m8"), "timedelta64 without a unit: return numbers"),
    "a duration too large": (np.array([2**60], "m8[D]"), "has timedelta64[D] that does not fit into 64 bits"),
    "a year too large": (np.array([2**60], "M8[Y]"), "has dates that do not fit into 32 bits"),
    "an hour too large": (np.array([2**62], "M8[h]"), "does not fit into 64 bits"),
    "nanoseconds and a far year": (
        [np.datetime64("2500-01-01"), np.datetime64("2020-01-01T00:00:00.000000001")],
        "has times that need nanoseconds, which cover the years 1677 to 2262",
    ),
    "a time of day in nanoseconds": (
        {"t": pa.scalar(1, pa.time64("ns"))},
        "column 't' is a Time64Scalar (pyarrow)",
    ),
    "a date with a time": ({"t": pa.scalar(1, pa.date64())}, "column 't' is a Date64Scalar (pyarrow)"),
    "a far time": (
        pa.scalar(2**40, pa.timestamp("s")),
        "is a TimestampScalar (pyarrow) that Python's own times",
    ),
    "a long duration": (pa.scalar(2**50, pa.duration("s")), "is a DurationScalar (pyarrow)"),
    "picoseconds": (np.array([1], "M8[ps]"), "return numbers, with the unit in the name"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_stored_is_refused_in_plain_words(name):
    value, words = REFUSALS[name]
    with pytest.raises(TypeError) as caught:
        to_outputs(value)
    message = str(caught.value)
    assert words in message and message.startswith("output"), message
    assert "VALUE" not in message


def test_a_row_of_numbers_is_the_same_by_the_short_way_and_the_long():
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    kinds = [
        lambda: rng.choice([0.0, -0.0, NAN, -NAN, float("inf"), rng.random()]),
        lambda: rng.choice([0, -1, 2**63 - 1, 2**63, rng.getrandbits(40)]),
        lambda: rng.random() < 0.5,
        lambda: np.float64(rng.random()),
        lambda: np.float32(rng.random()),
        lambda: np.int32(rng.getrandbits(20)),
        lambda: np.uint64(2**63),
        lambda: np.bool_(True),
        lambda: rng.choice(["a", None]),
    ]
    for _ in range(500):
        row = {f"n{i}": rng.choice(kinds)() for i in range(rng.randrange(5))}
        long_way = {"result": values._encode("result", row)}
        assert to_outputs(row) == long_way and to_outputs(collections.OrderedDict(row)) == long_way, row


def test_the_outputs_do_not_depend_on_how_much_there_is():
    """A study's tasks have the same outputs, however many rows each of them has."""
    for build in (
        lambda n: {"n": n, "curve": list(range(n))},
        lambda n: {"curve": list(range(n)), "days": [0.5] * n},
        lambda n: (np.zeros(n), np.zeros(n)),
        lambda n: {"table": pd.DataFrame({"x": [1.0] * n}), "events": [1] * n, "n": n},
        lambda n: [0.5] * n,
        lambda n: {"a": np.zeros((n, 2)), "b": np.zeros(n)},
    ):
        assert len({tuple(to_outputs(build(n))) for n in (0, 1, 2, 50)}) == 1


ZONES = {
    "Europe/Berlin": BERLIN,
    "UTC": datetime.UTC,
    "+02:00": datetime.timezone(datetime.timedelta(hours=2), "a name that means nothing elsewhere"),
    "-03:30": datetime.timezone(-datetime.timedelta(hours=3, minutes=30)),
}


@pytest.mark.parametrize("name", ZONES)
def test_zones_are_names_or_offsets_of_the_same_moment(name):
    moment = NOON.replace(tzinfo=ZONES[name])
    for value in (
        [moment],
        pd.Series([moment]),
        pl.Series([moment]) if name in ("Europe/Berlin", "UTC") else [moment],
    ):
        column = as_table(to_outputs(value)["result"])["value"]
        assert column.type.tz == name and column[0].as_py() == moment


def test_a_zone_of_the_models_own_is_utc():
    class Own(datetime.tzinfo):
        def utcoffset(self, when):
            return datetime.timedelta(hours=when.month) if when else None

        def dst(self, when):
            return None

    column = as_table(to_outputs(NOON.replace(tzinfo=Own()))["result"])["value"]
    assert column.type.tz == "UTC" and column[0].as_py() == NOON.replace(tzinfo=Own())


EQUAL = {
    "numbers": [
        pd.DataFrame({"x": [1.5, None], "n": pd.array([1, None], "Int64")}),
        pl.DataFrame({"x": [1.5, None], "n": [1, None]}),
        pa.table({"x": [1.5, None], "n": [1, None]}),
        pa.table({"x": [9, 1.5, None, 9], "n": [9, 1, None, 9]}).slice(1, 2),
        pa.table(
            {"x": pa.chunked_array([[1.5], [None]]), "n": pa.chunked_array([[], [1, None]], pa.int64())}
        ),
        {"x": [1.5, None], "n": [1, None]},
        [{"x": 1.5, "n": 1}, {"x": None, "n": None}],
        {"x": np.ma.array([1.5, 7], mask=[0, 1]), "n": np.ma.array([1, 7], mask=[0, 1])},
    ],
    "text": [
        pd.DataFrame({"s": ["é", None, "b"]}),
        pd.DataFrame({"s": ["é", None, "b"]}, dtype=object),
        pd.DataFrame({"s": pd.Categorical(["é", None, "b"], categories=["b", "c", "é"])}),
        pd.DataFrame({"s": pd.array(["é", None, "b"], pd.ArrowDtype(pa.large_string()))}),
        pl.DataFrame({"s": ["é", None, "b"]}),
        pl.DataFrame({"s": pl.Series(["é", None, "b"], dtype=pl.Categorical)}),
        pl.DataFrame({"s": ["z", "é", None, "b"]})[1:],
        pl.concat([pl.DataFrame({"s": ["é"]}), pl.DataFrame({"s": [None, "b"]})], rechunk=False),
        pa.table({"s": pa.array(["é", None, "b"], pa.large_string())}),
        pa.table({"s": pa.array(["é", None, "b"], pa.string_view())}),
        pa.table({"s": pa.array(["q", "é", None, "b"]).dictionary_encode().slice(1)}),
        {"s": ["é", None, "b"]},
        {"s": np.array(["é", None, "b"], object)},
    ],
    "times": [
        pd.DataFrame({"t": pd.Series([NOON, None], dtype="M8[ns]")}),
        pd.DataFrame({"t": pd.Series([NOON, None], dtype="M8[us]")}),
        pl.DataFrame({"t": pl.Series([NOON, None], dtype=pl.Datetime("ns"))}),
        pl.DataFrame({"t": pl.Series([NOON, None], dtype=pl.Datetime("us"))}),
        pa.table({"t": pa.array([NOON, None], pa.timestamp("ns"))}),
        {"t": np.array([NOON, None], "M8[us]")},
        {"t": [NOON, None]},
        {"t": [pd.Timestamp(NOON), pd.NaT]},
    ],
    "truth": [
        pd.DataFrame({"b": pd.array([True, None, False], "boolean")}),
        pl.DataFrame({"b": [True, None, False]}),
        pa.table({"b": [True, True, None, False]}).slice(1),
        {"b": [True, None, False]},
        {"b": [np.bool_(True), None, False]},
    ],
    "lists": [
        pl.DataFrame({"l": [[1, 2], None, [], [None]]}),
        pa.table({"l": [[7], [1, 2], None, [], [None]]}).slice(1),
        pa.table({"l": pa.array([[1, 2], None, [], [None]], pa.large_list(pa.int64()))}),
        pd.DataFrame({"l": [[1, 2], None, [], [None]]}),
        {"l": [(1, 2), None, [], [None]]},
    ],
    "NaN": [
        pl.DataFrame({"x": [NAN, 1.0]}),
        {"x": np.array([-NAN, 1.0])},
        {"x": np.frombuffer(struct.pack("<Qd", 0x7FF8000000000123, 1.0))},
        {"x": [struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000000))[0], 1.0]},
        pa.table({"x": pa.array([-NAN, 1.0])}),
    ],
}


def hidden_by_nulls():
    """A table whose nulls hide other values than those of its equals in EQUAL."""
    mask = pa.array([True, False])
    return pa.table(
        {
            "x": pa.Array.from_buffers(
                pa.float64(), 2, [mask.buffers()[1], pa.array([1.5, 99.0]).buffers()[1]]
            ),
            "n": pa.Array.from_buffers(pa.int64(), 2, [mask.buffers()[1], pa.array([1, 99]).buffers()[1]]),
        }
    )


@pytest.mark.parametrize("name", EQUAL)
def test_equal_tables_are_equal_bytes_whichever_library_made_them(name):
    tables = EQUAL[name] + ([hidden_by_nulls()] if name == "numbers" else [])
    encoded = [to_outputs(table)["result"] for table in tables]
    assert len(set(encoded)) == 1, [as_table(data).to_pydict() for data in encoded]


BY_PATH = """
import sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
before = set(sys.modules)
import importlib.util
spec = importlib.util.spec_from_file_location("_modelops_values", sys.argv[1])
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.to_outputs({"a": 1.5, "b": [1, None], "c": "x", "d": [{"e": 1}]}))
print(*sorted(set(sys.modules) - before))
"""


def test_it_needs_the_standard_library_alone_and_little_of_that():
    script = [sys.executable, "-I", "-S", "-c", BY_PATH, values.__file__]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=True)
    outputs, modules = done.stdout.splitlines()
    assert outputs == str(to_outputs({"a": 1.5, "b": [1, None], "c": "x", "d": [{"e": 1}]}))
    assert not {"json", "typing", "ctypes", "dataclasses", "inspect", "re", "enum"} & set(modules.split())


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_python_makes_the_same_bytes(version):
    """`make test-versions` compares versions of the libraries as well."""
    python = value_versions.find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    digests, versions = value_versions.read(python, [])
    assert versions["python"].startswith(f"{version}.")
    expected, _ = value_cases.digests(to_outputs, ["numpy", "pandas", "polars", "pyarrow"])
    assert digests.items() <= expected.items()


def test_libraries_agree_on_cases_of_one_name():
    digests, _ = value_cases.digests(to_outputs, ["numpy", "pandas", "polars", "pyarrow"])
    assert value_versions.differences({"these": digests}) == []


def test_a_digest_that_differs_is_noticed():
    assert len(value_versions.differences({"a": {"pandas:x": "1"}, "b": {"polars:x:y": "2"}})) == 1
