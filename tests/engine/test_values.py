"""What a function returns becomes tables and bytes by the rule in docs/studies.md, or is refused."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import pathlib
import random
import struct
import subprocess
import sys
import types
import uuid
import zoneinfo

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
import scipy.sparse

from modelops_dask.executors import values
from modelops_dask.executors.values import to_outputs
from modelops_dask.store.tables import as_table
from modelops_dask.store.verify_neutral import read_neutral

NAN = float("nan")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAY, NOON = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 0, 0, 1)
LATE = datetime.time(23, 59, 59, 5)
HOUR = datetime.timedelta(hours=1)
UUID = uuid.UUID(int=5)
Point = collections.namedtuple("Point", "x y")
Color = enum.Enum("Color", {"RED": 1, "BLUE": 2})


@dataclasses.dataclass
class Peak:
    day: int
    height: float


@attrs.define
class Size:
    n: int
    name: str


class Rates(pydantic.BaseModel):
    beta: float
    gamma: float = 0.1


class Mine(float):
    """A number of the model's own type."""


def frame(**more):
    return pd.DataFrame({"x": [1.5, 2.5], "n": [3, 4]}, **more)


def one(**columns):
    """A single output."""
    return {"result": columns}


# name -> what is returned, the outputs that are to come of it
SCALARS = {
    "int": (3, one(value=[3])),
    "float": (2.5, one(value=[2.5])),
    "bool": (True, one(value=[True])),
    "text": ("é", one(value=["é"])),
    "date": (DAY, one(value=[DAY])),
    "datetime": (NOON, one(value=[NOON])),
    "time": (LATE, one(value=[LATE])),
    "duration": (HOUR, one(value=[HOUR])),
    "decimal": (decimal.Decimal("1.20"), one(value=[decimal.Decimal("1.20")])),
    "uuid": (UUID, one(value=[str(UUID)])),
    "enum": (Color.BLUE, one(value=[2])),
    "a subclass of float": (Mine(2.5), one(value=[2.5])),
    "a large integer": (2**64 - 1, one(value=[2**64 - 1])),
    "numpy float": (np.float64(2.5), one(value=[2.5])),
    "numpy float32": (np.float32(2.5), one(value=[2.5])),
    "numpy int": (np.int8(3), one(value=[3])),
    "numpy bool": (np.bool_(True), one(value=[True])),
    "numpy text": (np.str_("a"), one(value=["a"])),
    "numpy day": (np.datetime64("2024-02-29"), one(value=[DAY])),
    "numpy nanoseconds": (np.datetime64("2024-02-29T12:00:00.000001000"), one(value=[NOON])),
    "array of no dimension": (np.array(2.5), one(value=[2.5])),
    "pandas time": (pd.Timestamp("2024-02-29 12:00:00.000001"), one(value=[NOON])),
    "pandas duration": (pd.Timedelta("1h"), one(value=[HOUR])),
    "pandas period": (pd.Period("2024-02", "M"), one(value=["2024-02"])),
    "arrow scalar": (pa.scalar(3), one(value=[3])),
}
BYTES = {
    "bytes": (b"raw", {"result": b"raw"}),
    "bytearray": (bytearray(b"raw"), {"result": b"raw"}),
    "memoryview": (memoryview(b"raw")[1:], {"result": b"aw"}),
    "nothing": (b"", {"result": b""}),
    "a dict of bytes": ({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"2"}),
}
MAPPINGS = {
    "dict of scalars": ({"r0": 2.5, "n": 3, "name": "x"}, one(r0=[2.5], n=[3], name=["x"])),
    "dict with None": ({"r0": 2.5, "peak": None}, one(r0=[2.5], peak=[None])),
    "dict of numpy scalars": ({"a": np.float64(1), "b": np.int64(2)}, one(a=[1.0], b=[2])),
    "dict of lists": ({"day": [0, 1], "cases": [5, None]}, one(day=[0, 1], cases=[5, None])),
    "dict of arrays": ({"day": np.arange(2), "y": np.array([0.5, NAN])}, one(day=[0, 1], y=[0.5, NAN])),
    "dict of Series": ({"a": pd.Series([1, 2]), "b": [3.0, NAN]}, one(a=[1, 2], b=[3.0, NAN])),
    "dict of Series with an index": (
        {"a": pd.Series([1, 2], index=["p", "q"]), "b": pd.Series([3, 4], index=["p", "q"])},
        one(index=["p", "q"], a=[1, 2], b=[3, 4]),
    ),
    "dict of polars Series": ({"a": pl.Series([1, None])}, one(a=[1, None])),
    "dict of arrow arrays": (
        {"a": pa.array([1, None]), "b": pa.chunked_array([[1], [2]])},
        one(a=[1, None], b=[1, 2]),
    ),
    "dict of lists of lists": ({"t": [0, 1], "path": [[1, 2], []]}, one(t=[0, 1], path=[[1, 2], []])),
    "mixed dict": (
        {"n": 3, "curve": frame(), "days": [1, 2, 3], "raw": b"x"},
        {
            "curve": {"x": [1.5, 2.5], "n": [3, 4]},
            "days": {"value": [1, 2, 3]},
            "raw": b"x",
            "result": {"n": [3]},
        },
    ),
    "mixed dict with an entry result": (
        {"result": frame(), "n": 3},
        {"result": {"x": [1.5, 2.5], "n": [3, 4]}, "scalars": {"n": [3]}},
    ),
    "mixed dict with a scalar result": (
        {"result": 0.5, "curve": frame()},
        {"curve": {"x": [1.5, 2.5], "n": [3, 4]}, "result": {"result": [0.5]}},
    ),
    "dict of dicts": (
        {"north": {"peak": 3, "day": 9}, "south": {"peak": [4, 5], "day": [8, 7]}},
        {"north": {"peak": [3], "day": [9]}, "south": {"peak": [4, 5], "day": [8, 7]}},
    ),
    "dict of records": (
        {"people": [{"age": 3}, {"age": 4}], "houses": [{"size": 2}]},
        {"people": {"age": [3, 4]}, "houses": {"size": [2]}},
    ),
    "names that are numbers": ({1: 0.5, 2: 0.25}, {"result": {"1": [0.5], "2": [0.25]}}),
    "names of an enum": ({Color.RED: 0.5}, {"result": {"1": [0.5]}}),
    "names that are tuples": ({("a", 1): 0.5}, {"result": {"a_1": [0.5]}}),
    "named tuple": (Point(1, 2.5), one(x=[1], y=[2.5])),
    "named tuple of lists": (Point([1, 2], [2.5, 3.5]), one(x=[1, 2], y=[2.5, 3.5])),
    "dataclass": (Peak(3, 0.5), one(day=[3], height=[0.5])),
    "attrs": (Size(3, "x"), one(n=[3], name=["x"])),
    "pydantic": (Rates(beta=0.5), one(beta=[0.5], gamma=[0.1])),
    "namespace": (types.SimpleNamespace(a=1), one(a=[1])),
    "counter": (collections.Counter("aab"), one(a=[2], b=[1])),
    "ordered dict": (collections.OrderedDict(b=1, a=2), one(b=[1], a=[2])),
    "view of a dict": (types.MappingProxyType({"a": 1}), one(a=[1])),
    "tuple of lists": (([0, 1], [5.0, 6.0]), one(result_0=[0, 1], result_1=[5.0, 6.0])),
    "tuple of arrays": ((np.arange(2), np.ones(2)), one(result_0=[0, 1], result_1=[1.0, 1.0])),
    "tuple of scalars": ((3, 0.5), one(result_0=[3], result_1=[0.5])),
    "tuple of tables": (
        (frame(), 0.5),
        {"result_0": {"x": [1.5, 2.5], "n": [3, 4]}, "result": {"result_1": [0.5]}},
    ),
    "empty dict": ({}, one()),
}
LISTS = {
    "list of numbers": ([1, 2, None], one(value=[1, 2, None])),
    "integers among floats": ([1, 2.5], one(value=[1.0, 2.5])),
    "NaN stays": ([NAN, None], one(value=[NAN, None])),
    "list of text": (["a", None, "é"], one(value=["a", None, "é"])),
    "list of bytes": ([b"a", b"\xff"], one(value=[b"a", b"\xff"])),
    "list of truth": ([True, None, False], one(value=[True, None, False])),
    "list of dates": ([DAY, None], one(value=[DAY, None])),
    "list of durations": ([HOUR, -HOUR], one(value=[HOUR, -HOUR])),
    "list of decimals": (
        [decimal.Decimal("1.5"), decimal.Decimal("-20"), None],
        one(value=[decimal.Decimal("1.5"), decimal.Decimal("-20.0"), None]),
    ),
    "list of aware times": ([NOON.replace(tzinfo=BERLIN)], one(value=[NOON.replace(tzinfo=BERLIN)])),
    "list of numpy scalars": ([np.float64(1), np.float64(2)], one(value=[1.0, 2.0])),
    "list of enums": ([Color.RED, Color.BLUE], one(value=[1, 2])),
    "None alone in a list": ([None, None], one(value=[None, None])),
    "empty list": ([], one()),
    "generator": ((x * x for x in range(3)), one(value=[0, 1, 4])),
    "map": (map(str, range(2)), one(value=["0", "1"])),
    "range": (range(3), one(value=[0, 1, 2])),
    "deque": (collections.deque([1, 2]), one(value=[1, 2])),
    "array of Python": (array.array("d", [1.5]), one(value=[1.5])),
    "values of a dict": ({"a": 1}.values(), one(value=[1])),
    "records": ([{"a": 1, "b": "x"}, {"a": 2, "c": 0.5}], one(a=[1, 2], b=["x", None], c=[None, 0.5])),
    "generator of records": (({"a": i} for i in range(2)), one(a=[0, 1])),
    "records with lists": ([{"p": [1, 2]}, {"p": []}, {"p": None}], one(p=[[1, 2], [], None])),
    "records with dates": ([{"d": DAY}, {"d": None}], one(d=[DAY, None])),
    "dataclasses": ([Peak(1, 0.5), Peak(2, 1.5)], one(day=[1, 2], height=[0.5, 1.5])),
    "named tuples": ([Point(1, 2), Point(3, 4)], one(x=[1, 3], y=[2, 4])),
    "list of lists": ([[1, 2.5], [3, 4.5]], one(column_0=[1, 3], column_1=[2.5, 4.5])),
    "list of tuples": ([(1, "a"), (2, "b")], one(column_0=[1, 2], column_1=["a", "b"])),
    "list of arrays": ([np.arange(2), np.arange(2)], one(column_0=[0, 0], column_1=[1, 1])),
}
ARRAYS = {
    "one dimension": (np.array([0.5, NAN]), one(value=[0.5, NAN])),
    "two dimensions": (np.arange(4).reshape(2, 2), one(column_0=[0, 2], column_1=[1, 3])),
    "bool": (np.array([True, False]), one(value=[True, False])),
    "big-endian": (np.array([1, 2], ">i4"), one(value=[1, 2])),
    "float16": (np.array([0.5], "f2"), one(value=[0.5])),
    "strided": (np.arange(6)[::2], one(value=[0, 2, 4])),
    "text": (np.array(["a", "bc"]), one(value=["a", "bc"])),
    "objects": (np.array(["a", None], object), one(value=["a", None])),
    "days": (np.array(["2024-02-29", "NaT"], "M8[D]"), one(value=[DAY, None])),
    "hours": (np.array(["2024-02-29T12"], "M8[h]"), one(value=[datetime.datetime(2024, 2, 29, 12)])),
    "durations": (np.array([1, "NaT"], "m8[h]"), one(value=[HOUR, None])),
    "structured": (np.array([(1, 0.5)], [("a", "i4"), ("b", "f8")]), one(a=[1], b=[0.5])),
    "row of a structured": (np.array([(1, 0.5)], [("a", "i4"), ("b", "f8")])[0], one(a=[1], b=[0.5])),
    "masked": (np.ma.array([1, 2, 3], mask=[0, 1, 0]), one(value=[1, None, 3])),
    "masked truth": (np.ma.array([True, True], mask=[0, 1]), one(value=[True, None])),
    "masked in two dimensions": (
        np.ma.array([[1.0, 2.0]], mask=[[0, 1]]),
        one(column_0=[1.0], column_1=[None]),
    ),
    "no rows": (np.empty((0, 2)), one(column_0=[], column_1=[])),
}
PANDAS = {
    "frame": (frame(), one(x=[1.5, 2.5], n=[3, 4])),
    "named index": (frame(index=pd.RangeIndex(2, name="day")), one(day=[0, 1], x=[1.5, 2.5], n=[3, 4])),
    "unnamed index": (frame(index=[7, 9]), one(index=[7, 9], x=[1.5, 2.5], n=[3, 4])),
    "text index": (frame(index=["a", "b"]), one(index=["a", "b"], x=[1.5, 2.5], n=[3, 4])),
    "index that counts from 0": (frame(index=pd.Index([0, 1])), one(x=[1.5, 2.5], n=[3, 4])),
    "index called as a column": (
        frame(index=pd.Index([7, 9], name="x")),
        one(x_index=[7, 9], x=[1.5, 2.5], n=[3, 4]),
    ),
    "unnamed index and a column index": (
        pd.DataFrame({"index": [1]}, index=[5]),
        {"result": {"index_": [5], "index": [1]}},
    ),
    "multiple index": (
        pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_tuples([("a", 5)], names=["region", None])),
        one(region=["a"], level_1=[5], x=[1]),
    ),
    "time index": (
        frame(index=pd.DatetimeIndex([DAY, "NaT"], name="t")),
        one(t=[datetime.datetime(2024, 2, 29), None], x=[1.5, 2.5], n=[3, 4]),
    ),
    "index alone": (pd.DataFrame(index=pd.Index([3], name="day")), one(day=[3])),
    "groups": (
        pd.DataFrame({"g": ["a", "a"], "x": [1, 2]}).groupby("g").agg({"x": ["mean", "max"]}),
        one(g=["a"], x_mean=[1.5], x_max=[2]),
    ),
    "names that are numbers": (pd.DataFrame([[1, 2]]), {"result": {"0": [1], "1": [2]}}),
    "missing": (pd.DataFrame({"x": [1.5, NAN], "s": ["a", None]}), one(x=[1.5, None], s=["a", None])),
    "objects": (pd.DataFrame({"o": pd.Series([1, None], dtype=object)}), one(o=[1, None])),
    "lists in cells": (pd.DataFrame({"o": [[1, 2], None]}), one(o=[[1, 2], None])),
    "category": (
        pd.DataFrame({"c": pd.Categorical(["b", None, "a"], categories=["a", "b", "z"])}),
        one(c=["b", None, "a"]),
    ),
    "category of integers": (
        pd.DataFrame({"c": pd.Categorical([2**60 + 1, None])}),
        one(c=[2**60 + 1, None]),
    ),
    "nullable": (
        pd.DataFrame(
            {
                "i": pd.array([1, None], "Int64"),
                "b": pd.array([True, None], "boolean"),
                "f": pd.array([0.5, None], "Float64"),
                "s": pd.array(["a", None], "string"),
            }
        ),
        one(i=[1, None], b=[True, None], f=[0.5, None], s=["a", None]),
    ),
    "arrow types": (
        pd.DataFrame(
            {
                "i": pd.array([1, None], "int8[pyarrow]"),
                "f": pd.array([0.5, NAN], "double[pyarrow]"),
                "l": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            }
        ),
        one(i=[1, None], f=[0.5, None], l=[[1], None]),
    ),
    "sparse": (pd.DataFrame({"x": pd.arrays.SparseArray([0, 0, 1])}), one(x=[0, 0, 1])),
    "times": (
        pd.DataFrame({"t": pd.to_datetime(["2024-02-29 12:00:00.000001", None])}),
        one(t=[NOON, None]),
    ),
    "times with a zone": (
        pd.DataFrame({"t": pd.to_datetime([NOON]).tz_localize("Europe/Berlin")}),
        one(t=[NOON.replace(tzinfo=BERLIN)]),
    ),
    "periods and intervals": (
        pd.DataFrame({"p": pd.period_range("2024-02", periods=1, freq="M"), "i": pd.interval_range(0, 1)}),
        one(p=["2024-02"], i=["(0, 1]"]),
    ),
    "durations": (pd.DataFrame({"d": pd.to_timedelta(["1h", None])}), one(d=[HOUR, None])),
    "dates in cells": (pd.DataFrame({"d": [DAY, None]}), one(d=[DAY, None])),
    "Series": (pd.Series([1, 2]), one(value=[1, 2])),
    "named Series": (pd.Series([1, 2], name="x"), one(x=[1, 2])),
    "Series with an index": (pd.Series({"a": 1, "b": 2}, name="x"), one(index=["a", "b"], x=[1, 2])),
    "counts": (pd.Series(["a", "a"], name="s").value_counts(), one(s=["a"], count=[2])),
    "empty": (pd.DataFrame({"x": pd.Series([], dtype="int32")}), one(x=[])),
    "empty filter": (frame().query("x > 9"), one(x=[], n=[])),
    "index itself": (pd.Index([3, 4], name="day"), one(day=[3, 4])),
    "Categorical itself": (pd.Categorical(["b", "a"]), one(value=["b", "a"])),
}
POLARS = {
    "frame": (pl.DataFrame({"x": [1, None], "s": ["a", "b" * 40]}), one(x=[1, None], s=["a", "b" * 40])),
    "lazy": (pl.LazyFrame({"x": [1]}).with_columns(y=pl.col("x") * 2), one(x=[1], y=[2])),
    "Series": (pl.Series("x", [1.5, NAN, None]), one(x=[1.5, NAN, None])),
    "unnamed Series": (pl.Series([True, None]), one(value=[True, None])),
    "types": (
        pl.DataFrame(
            {
                "c": pl.Series(["b", "a", None], dtype=pl.Categorical),
                "e": pl.Series(["b", "a", None], dtype=pl.Enum(["a", "b"])),
                "d": [DAY, None, DAY],
                "t": [NOON, None, NOON],
                "u": [HOUR, None, HOUR],
                "w": [LATE, None, LATE],
                "l": [[1], None, []],
                "n": [None, None, None],
                "m": [decimal.Decimal("1.5"), None, decimal.Decimal("2")],
            }
        ),
        one(
            c=["b", "a", None],
            e=["b", "a", None],
            d=[DAY, None, DAY],
            t=[NOON, None, NOON],
            u=[HOUR, None, HOUR],
            w=[LATE, None, LATE],
            l=[[1], None, []],
            n=[None, None, None],
            m=[decimal.Decimal("1.5"), None, decimal.Decimal("2.0")],
        ),
    ),
    "empty": (pl.DataFrame({"x": []}, schema={"x": pl.Int32}), one(x=[])),
    "structs": (pl.Series("s", [{"a": 1, "b": "x"}]), one(a=[1], b=["x"])),
    "fixed arrays": (
        pl.DataFrame({"a": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2))}),
        one(a=[[1, 2], None]),
    ),
}
ARROW = {
    "table": (pa.table({"x": [1, None], "s": ["a", None]}), one(x=[1, None], s=["a", None])),
    "slice": (pa.table({"x": [1, 2, 3], "b": [True, None, False]}).slice(1), one(x=[2, 3], b=[None, False])),
    "batch": (pa.record_batch({"x": [1, 2]}).slice(1), one(x=[2])),
    "array": (pa.array([1, None, 3]).slice(1), one(value=[None, 3])),
    "chunked": (pa.chunked_array([["a"], [], ["bc"]]), one(value=["a", "bc"])),
    "no chunk": (pa.chunked_array([], pa.string()), one(value=[])),
    "dictionary": (pa.array(["b", None, "a"]).dictionary_encode(), one(value=["b", None, "a"])),
    "large": (pa.table({"s": pa.array(["a", "b"], pa.large_string())}), one(s=["a", "b"])),
    "views": (pa.table({"s": pa.array(["a" * 20, None], pa.string_view())}), one(s=["a" * 20, None])),
    "uuids": (pa.array([UUID.bytes, None], pa.binary(16)).cast(pa.uuid()), one(value=[str(UUID), None])),
    "fixed bytes": (pa.array([b"ab", None], pa.binary(2)), one(value=[b"ab", None])),
    "decimals": (
        pa.array([decimal.Decimal("1.25")], pa.decimal128(10, 2)),
        one(value=[decimal.Decimal("1.25")]),
    ),
    "dates": (pa.array([DAY], pa.date64()), one(value=[DAY])),
    "seconds": (
        pa.array([LATE.replace(microsecond=0)], pa.time32("s")),
        one(value=[LATE.replace(microsecond=0)]),
    ),
    "half": (pa.array([np.float16(0.5), None], pa.float16()), one(value=[0.5, None])),
    "lists": (pa.array([[1, 2], None, [3]]).slice(1), one(value=[None, [3]])),
    "nulls": (pa.nulls(2), one(value=[None, None])),
    "lists of text": (pa.array([["a", None], []]), one(value=[["a", None], []])),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "scalar": SCALARS, "bytes": BYTES, "mapping": MAPPINGS, "list": LISTS, "numpy": ARRAYS,
        "pandas": PANDAS, "polars": POLARS, "arrow": ARROW,
    }.items()
    for name, case in cases.items()
}  # fmt: skip


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
    "set": ({1, 2}, "return sorted(value)"),
    "set in an entry": ({"a": 1, "seen": frozenset([1])}, "output 'seen' is a frozenset"),
    "path": (pathlib.Path("x.csv"), "a PosixPath, which is not stored: return path.read_bytes()"),
    "path in a column": ([{"p": pathlib.Path("x")}], "column 'p' is a PosixPath"),
    "file": (io.BytesIO(), "return value.getvalue()"),
    "sparse matrix": (scipy.sparse.eye(2).tocsr(), "return csr_matrix.toarray()"),
    "a function": (square, "call it"),
    "a class": (Sim, "call it"),
    "an exception": (ValueError("x"), "raise it"),
    "an object": (object(), "return what you need of it"),
    "a fraction": (fractions.Fraction(1, 2), "return float(fraction)"),
    "an object with a method": (Sim(), ", which is not stored: return sim.to_df()"),
    "an object in an entry": ({"sim": Sim(), "n": 1}, "output 'sim' is a Sim"),
    "an object that is a number": (Handle(), "return float(handle)"),
    "groups": (frame().groupby("n"), "DataFrameGroupBy (pandas)"),
    "a large integer": (2**64, "18,446,744,073,709,551,616, which does not fit into 64 bits"),
    "large and negative integers": ([2**63, -1], "does not fit into 64 bits"),
    "an integer that no float is": ([0.5, 2**53 + 1], "mixes floats with the integer 9007199254740993"),
    "numbers and text": ([1, "a"], "mixes integers and text"),
    "truth and numbers": ({"x": [True, 2]}, "column 'x' mixes integers and truth values"),
    "objects of two types": (
        pd.DataFrame({"o": [1, "a"]}, dtype=object),
        "column 'o' mixes integers and text",
    ),
    "times with and without a zone": ([NOON, NOON.replace(tzinfo=BERLIN)], "mixes times with a time zone"),
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
    "a dict in a record": ([{"a": {"b": 1}}], "column 'a' is a dict"),
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
    "a struct that is null": (pa.array([{"a": 1}, None]), "structs that are null as a whole"),
    "a struct of polars": (pl.DataFrame({"s": [{"a": 1}]}), "column 's' is a struct"),
    "an object of polars": (
        pl.DataFrame({"s": [pl.DataFrame()]}, schema={"s": pl.Object}),
        "output 'result'",
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
