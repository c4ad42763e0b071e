"""Values as functions return them, and the outputs that are to come of each, as columns of plain values."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import types
import uuid
import zoneinfo

import attrs
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import xarray as xr

NAN = float("nan")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAY, NOON = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 0, 0, 1)
LATE = datetime.time(23, 59, 59, 5)
HOUR = datetime.timedelta(hours=1)
UUID = uuid.UUID(int=5)
Point = collections.namedtuple("Point", "x y")
Answer = enum.Enum("Answer", {"YES": True, "NO": False})
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


class Totals(pydantic.BaseModel):
    north: int
    south: int

    @pydantic.computed_field
    @property
    def both(self) -> int:
        return self.north + self.south


@pydantic.dataclasses.dataclass
class Halves:
    n: int

    @pydantic.computed_field
    @property
    def half(self) -> float:
        return self.n / 2


class Mine(float):
    """A number of the model's own type."""


def frame(**more):
    return pd.DataFrame({"x": [1.5, 2.5], "n": [3, 4]}, **more)


class NamedArray(np.ndarray):
    """An array that names its columns, as libRoadRunner's."""


def named(rows, names):
    array = np.array(rows).view(NamedArray)
    array.colnames = names
    return array


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
    "nanoseconds of no dimension": (np.array(NOON, "M8[ns]"), one(value=[NOON])),
    "duration of no dimension": ({"d": np.array(HOUR, "m8[ns]")}, one(d=[HOUR])),
    "masked of no dimension": ({"x": np.ma.array(5, mask=True)}, one(x=[None])),
    "not masked of no dimension": (np.ma.array(5), one(value=[5])),
    "enum of truth": ({"outbreak": Answer.NO, "size": 3}, one(outbreak=[False], size=[3])),
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
    "dict with an empty list": (
        {"curve": [1, 2], "events": []},
        {"curve": {"value": [1, 2]}, "events": {}},
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
    "pydantic with a computed field": (Totals(north=1, south=2), one(north=[1], south=[2], both=[3])),
    "dataclass of pydantic": (Halves(n=3), one(n=[3], half=[1.5])),
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
    "records with arrays of times": ([{"t": np.array([NOON], "M8[ns]")}], one(t=[[NOON]])),
    "list of arrays of times": ([np.array([NOON, NOON], "M8[ns]")], one(column_0=[NOON], column_1=[NOON])),
    "times of several units": (
        [np.datetime64("2024-02-29"), None, np.datetime64("2024-02-29T12:00:00.000001")],
        one(value=[datetime.datetime(2024, 2, 29), None, NOON]),
    ),
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
    "structured with arrays": (
        np.array([((1, 2), (3, 4)), ((5, 6), (7, 8))], [("pos", "f8", (2,)), ("id", "i4", (2,))]),
        one(pos_0=[1.0, 5.0], pos_1=[2.0, 6.0], id_0=[3, 7], id_1=[4, 8]),
    ),
    "structured with arrays of truth": (
        np.array([((1, 0), 3)], [("f", "?", (2,)), ("n", "i4")]),
        one(f_0=[True], f_1=[False], n=[3]),
    ),
    "masked structured with arrays": (
        np.ma.array([((1, 2), 3)], dtype=[("p", "i8", (2,)), ("n", "i4")], mask=[((0, 1), 0)]),
        one(p_0=[1], p_1=[None], n=[3]),
    ),
    "masked": (np.ma.array([1, 2, 3], mask=[0, 1, 0]), one(value=[1, None, 3])),
    "masked truth": (np.ma.array([True, True], mask=[0, 1]), one(value=[True, None])),
    "masked in two dimensions": (
        np.ma.array([[1.0, 2.0]], mask=[[0, 1]]),
        one(column_0=[1.0], column_1=[None]),
    ),
    "columns with names": (named([[1, 2.5]], ["time", "[S1]"]), one(**{"time": [1.0], "[S1]": [2.5]})),
    "columns with one name": (named([[1, 2]], ["a"]), one(column_0=[1], column_1=[2])),
    "columns with a name twice": (named([[1, 2]], ["a", "a"]), one(column_0=[1], column_1=[2])),
    "matrix": (np.matrix([[1, 2]]), one(column_0=[1], column_1=[2])),
    "records of a structured": (np.rec.array([(1, 0.5)], names="a,b"), one(a=[1], b=[0.5])),
    "no rows": (np.empty((0, 2)), one(column_0=[], column_1=[])),
}
PANDAS = {
    "frame": (frame(), one(x=[1.5, 2.5], n=[3, 4])),
    "named index": (frame(index=pd.RangeIndex(2, name="day")), one(day=[0, 1], x=[1.5, 2.5], n=[3, 4])),
    "unnamed index": (frame(index=[7, 9]), one(index=[7, 9], x=[1.5, 2.5], n=[3, 4])),
    "text index": (frame(index=["a", "b"]), one(index=["a", "b"], x=[1.5, 2.5], n=[3, 4])),
    "index that happens to count from 0": (
        frame(index=pd.Index([0, 1])),
        one(index=[0, 1], x=[1.5, 2.5], n=[3, 4]),
    ),
    "index of every other row": (
        frame(index=pd.RangeIndex(0, 4, 2)),
        one(index=[0, 2], x=[1.5, 2.5], n=[3, 4]),
    ),
    "counts of numbers": (pd.Series([0, 0, 1]).value_counts(), one(index=[0, 1], count=[2, 1])),
    "rows as tuples": (
        [*frame().itertuples()],
        one(Index=[0, 1], x=[1.5, 2.5], n=[3, 4]),
    ),
    "a row as a tuple": (
        next(pd.DataFrame({"s": ["a"], "n": [1]}).itertuples()),
        one(Index=[0], s=["a"], n=[1]),
    ),
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
    "Categorical with a null": (pd.Categorical(["a", None]), one(value=["a", None])),
    "Categorical of large integers": (pd.Categorical([2**53 + 1, None]), one(value=[2**53 + 1, None])),
    "Int64 itself": ({"id": pd.array([2**53 + 1, None], "Int64")}, one(id=[2**53 + 1, None])),
    "boolean itself": (pd.array([True, None], "boolean"), one(value=[True, None])),
    "Float64 itself": (pd.array([0.5, None], "Float64"), one(value=[0.5, None])),
    "arrow integers themselves": (
        {"id": pd.array([2**53 + 1, None], "int64[pyarrow]")},
        one(id=[2**53 + 1, None]),
    ),
    "times with a zone themselves": (
        {"t": pd.to_datetime([NOON]).tz_localize("Europe/Berlin").array},
        one(t=[NOON.replace(tzinfo=BERLIN)]),
    ),
    "times in arrays in cells": (
        pd.DataFrame({"t": [np.array([NOON], "M8[ns]"), None]}),
        one(t=[[NOON], None]),
    ),
    "category of times": (
        pd.DataFrame(
            {"c": pd.Categorical([pd.Timestamp(NOON)], categories=[pd.Timestamp(1), pd.Timestamp(NOON)])}
        ),
        one(c=[NOON]),
    ),
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
    "a category called Object": (
        pl.DataFrame({"e": pl.Series(["Object"], dtype=pl.Enum(["Object"]))}),
        one(e=["Object"]),
    ),
    "empty": (pl.DataFrame({"x": []}, schema={"x": pl.Int32}), one(x=[])),
    "structs": (pl.Series("s", [{"a": 1, "b": "x"}]), one(a=[1], b=["x"])),
    "fixed arrays": (
        pl.DataFrame({"a": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2))}),
        one(a=[[1, 2], None]),
    ),
}
ARROW = {
    "relation of DuckDB": (duckdb.sql("select 1::bigint as x, 'a' as s"), one(x=[1], s=["a"])),
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
    "scalars of times": (
        {
            "t": pa.scalar(1000, pa.time64("ns")),
            "n": pa.scalar(None, pa.time64("ns")),
            "d": pa.scalar(DAY, pa.date64()),
        },
        one(t=[datetime.time(0, 0, 0, 1)], n=[None], d=[DAY]),
    ),
    "dictionaries of times": (
        pa.chunked_array([pa.array([1000 * n], pa.timestamp("ns")).dictionary_encode() for n in (1, 2)]),
        one(value=[datetime.datetime(1970, 1, 1, 0, 0, 0, n) for n in (1, 2)]),
    ),
    "half": (pa.array([np.float16(0.5), None], pa.float16()), one(value=[0.5, None])),
    "lists": (pa.array([[1, 2], None, [3]]).slice(1), one(value=[None, [3]])),
    "nulls": (pa.nulls(2), one(value=[None, None])),
    "lists of text": (pa.array([["a", None], []]), one(value=[["a", None], []])),
}
SERIES = xr.DataArray([2.5], dims="time", coords={"time": np.array([NOON], "M8[ns]")})
XARRAY = {
    "array": (
        xr.DataArray([[1.5, 2.5]], dims=("region", "day"), coords={"day": [3, 4]}, name="x"),
        one(region=[0, 0], day=[3, 4], x=[1.5, 2.5]),
    ),
    "unnamed": (xr.DataArray([1.5, 2.5], dims="day"), one(day=[0, 1], value=[1.5, 2.5])),
    "dataset": (
        xr.Dataset({"x": ("day", [1.5, 2.5]), "total": 4.0}, coords={"day": [3, 4]}),
        one(day=[3, 4], x=[1.5, 2.5], total=[4.0, 4.0]),
    ),
    "three dimensions": (
        xr.DataArray(np.arange(4).reshape(1, 2, 2), dims=("a", "b", "c"), name="x"),
        one(a=[0] * 4, b=[0, 0, 1, 1], c=[0, 1, 0, 1], x=[0, 1, 2, 3]),
    ),
    "scalars": (xr.Dataset({"a": 1.5}), one(a=[1.5])),
    "scalar array": (xr.DataArray(1.5), one(value=[1.5])),
    "scalars of a series": (
        {"peak_time": SERIES.idxmax(), "peak": SERIES.max(), "total": SERIES.sum()},
        one(peak_time=[NOON], peak=[2.5], total=[2.5]),
    ),
    "scalar times": (xr.Dataset({"t": SERIES.time[0].drop_vars("time")}), one(t=[NOON])),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "scalar": SCALARS, "bytes": BYTES, "mapping": MAPPINGS, "list": LISTS, "numpy": ARRAYS,
        "pandas": PANDAS, "polars": POLARS, "arrow": ARROW, "xarray": XARRAY,
    }.items()
    for name, case in cases.items()
}  # fmt: skip
