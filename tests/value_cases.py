"""Values of the libraries that an interpreter has, and digests of what becomes of them.

    PYTHON tests/value_cases.py engine/.../values.py LIBRARY... -> JSON: {case: digest or refusal}

To compare environments: a case gives the same digest with every version of its library, and "text" and
"text:large" of all libraries give the same. Python 3.9, and no package but those that are compared.
"""

import datetime
import decimal
import enum
import hashlib
import importlib
import importlib.util
import json
import sys

NAN = float("nan")
DAY, NOON = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 0, 0, 1)
ZONED = NOON.replace(tzinfo=datetime.timezone.utc)  # noqa: UP017
HOUR = datetime.timedelta(hours=1)


class Answer(enum.Enum):
    YES = True
    NO = False


def yield_states():
    state = {"S": 1, "path": [1]}
    for _ in range(3):
        state["S"] += 1
        state["path"].append(state["S"])
        yield state


def python_cases():
    return {
        "numbers": lambda: {"x": [1.5, None, NAN, -0.0], "n": [1, None, -3, 2**40]},
        "text": lambda: {"s": ["é", None, "", "b" * 50]},
        "truth": lambda: {"b": [True, None, False]},
        "times": lambda: {"t": [NOON, None], "z": [ZONED, None], "u": [HOUR, None]},
        "dates": lambda: {"d": [DAY, None]},
        "lists": lambda: {"l": [[1, 2], None, []]},
        "indexed": lambda: {"day": [3, 4], "x": [0.5, 1.5]},
        "decimals": lambda: {"d": [decimal.Decimal("1.50"), None]},
        "row": lambda: {"a": 1.5, "b": 2, "c": True, "d": "x", "e": None},
        "mixed": lambda: {"n": 1, "l": [1.5], "r": [{"a": 1}, {"b": "x"}], "raw": b"x"},
        "empty list": lambda: {"x": [1.5], "events": []},
        "generator": yield_states,
        "enum row": lambda: {"a": Answer.NO, "b": 3},
        "large": lambda: [2**70],
        "no order": lambda: {1, 2},
    }


def numpy_cases(np):
    masked = np.ma.array([1.5, 0, NAN, -0.0], mask=[0, 1, 0, 0])
    return {
        "numbers": lambda: {"x": masked, "n": np.ma.array([1, 9, -3, 2**40], mask=[0, 1, 0, 0])},
        "text": lambda: {"s": np.array(["é", None, "", "b" * 50], object)},
        "truth": lambda: {"b": np.ma.array([True, True, False], mask=[0, 1, 0])},
        "times": lambda: {
            "t": np.array([NOON, "NaT"], "M8[us]"),
            "z": [ZONED, None],
            "u": np.array([1, "NaT"], "m8[h]"),
        },
        "dates": lambda: {"d": np.array([DAY, "NaT"], "M8[D]")},
        "matrix": lambda: np.arange(4, dtype="i4").reshape(2, 2),
        "row": lambda: {
            "a": np.float64(1.5),
            "b": np.int64(2),
            "c": np.bool_(True),
            "d": np.str_("x"),
            "e": None,
        },
        "one time": lambda: {"t": np.array(NOON, "M8[ns]"), "u": np.array(HOUR, "m8[ns]")},
        "times in cells": lambda: [{"t": np.array([NOON], "M8[ns]")}, {"t": None}],
        "rows of times": lambda: [np.array([NOON, DAY], "M8[ns]")],
        "units": lambda: [np.datetime64("2020-01-01"), np.datetime64(1, "ns")],
        "far units": lambda: [np.datetime64("2500-01-01"), np.datetime64(1, "ns")],
        "large duration": lambda: np.array([2**60], "m8[D]"),
        "unsigned": lambda: {"n": np.uint64(1), "l": [np.uint64(1)], "z": np.array(1, "u8")},
        "masked": lambda: {"a": np.ma.array(5, mask=True), "b": np.ma.array(5)},
        "fields": lambda: np.array([((1, 2), 3)], [("p", "f8", (2,)), ("f", "?")]),
        "void": lambda: np.zeros(2, "V4"),
        "long double": lambda: {"a": np.longdouble(1)},
        "complex": lambda: np.ones(1, complex),
    }


def pandas_cases(pd):
    return {
        # A NaN of pandas is null, so this has none.
        "numbers without NaN": lambda: pd.DataFrame({"x": [1.5, None], "n": pd.array([1, None], "Int64")}),
        "text": lambda: pd.DataFrame({"s": ["é", None, "", "b" * 50]}),
        "text:categories": lambda: pd.DataFrame({"s": pd.Categorical(["é", None, "", "b" * 50])}),
        "truth": lambda: pd.DataFrame({"b": pd.array([True, None, False], "boolean")}),
        "times": lambda: pd.DataFrame(
            {
                "t": pd.to_datetime([NOON, None]),
                "z": pd.to_datetime([ZONED, None]),
                "u": pd.to_timedelta([HOUR, None]),
            }
        ),
        "indexed": lambda: pd.DataFrame({"x": [0.5, 1.5]}, index=pd.Index([3, 4], name="day")),
        "grouped": lambda: pd.DataFrame({"g": ["b", "a", "b"], "x": [1.5, 2, 3]}).groupby("g").mean(),
        "indexes": lambda: pd.DataFrame(
            {("x", "mean"): [1.5]}, index=pd.MultiIndex.from_tuples([("a", 1)], names=["g", None])
        ),
        "intervals": lambda: pd.DataFrame({"i": pd.cut([1, 2], [0, 1, 2])}),
        "series": lambda: pd.Series([1, 2], index=["a", "b"], name="x"),
        "own arrays": lambda: {
            "i": pd.array([2**53 + 1, None], "Int64"),
            "c": pd.Categorical(["a", None]),
            "n": pd.Categorical([2**53 + 1, None]),
            "z": pd.to_datetime([ZONED, None]).array,
        },
        "counts": lambda: pd.Series([0, 0, 1]).value_counts().rename("n"),
        "index that reads 0, 1": lambda: pd.DataFrame({"x": [1, 2]}, index=pd.Index([0, 1])),
        "index": lambda: pd.DataFrame({"x": [1, 2]}),
        "tuples": lambda: list(pd.DataFrame({"x": [1], "s": ["a"]}).itertuples()),
        "times in cells": lambda: pd.DataFrame({"t": [pd.Series([NOON]).to_numpy().astype("M8[ns]"), None]}),
        "category of times": lambda: pd.Series(pd.Categorical.from_codes([1], pd.to_datetime([1, 1000]))),
        "names twice": lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
    }


def polars_cases(pl):
    return {
        "numbers": lambda: pl.DataFrame({"x": [1.5, None, NAN, -0.0], "n": [1, None, -3, 2**40]}),
        "numbers without NaN": lambda: pl.DataFrame({"x": [9.0, 1.5, None], "n": [9, 1, None]})[1:],
        "text": lambda: pl.DataFrame({"s": ["é", None, "", "b" * 50]}),
        "text:categories": lambda: pl.DataFrame(
            {"s": pl.Series(["é", None, "", "b" * 50], dtype=pl.Categorical)}
        ),
        "truth": lambda: pl.DataFrame({"b": [True, None, False]}),
        "times": lambda: pl.DataFrame({"t": [NOON, None], "z": [ZONED, None], "u": [HOUR, None]}),
        "dates": lambda: pl.DataFrame({"d": [DAY, None]}),
        "lists": lambda: pl.DataFrame({"l": [[1, 2], None, []]}),
        "lazy": lambda: pl.LazyFrame({"x": [1]}),
        "struct": lambda: pl.DataFrame({"s": [{"a": 1}]}),
        "expression": lambda: pl.col("a"),
        "objects": lambda: pl.DataFrame({"o": pl.Series("o", [object()], dtype=pl.Object)}),
    }


def pyarrow_cases(pa):
    return {
        "numbers": lambda: pa.table({"x": [9.0, 1.5, None, NAN, -0.0], "n": [9, 1, None, -3, 2**40]}).slice(
            1
        ),
        "text": lambda: pa.table({"s": ["é", None, "", "b" * 50]}),
        "text:categories": lambda: pa.table({"s": pa.array(["é", None, "", "b" * 50]).dictionary_encode()}),
        "text:large": lambda: pa.table({"s": pa.array(["é", None, "", "b" * 50], pa.large_string())}),
        "text:chunks": lambda: pa.table({"s": pa.chunked_array([["é", None], [""], ["b" * 50]])}),
        "truth": lambda: pa.table({"b": [None, True, None, False]}).slice(1),
        "times": lambda: pa.table(
            {
                "t": pa.array([NOON, None], pa.timestamp("ns")),
                "z": pa.array([ZONED, None], pa.timestamp("us", "UTC")),
                "u": pa.array([HOUR, None], pa.duration("s")),
            }
        ),
        "dates": lambda: pa.table({"d": pa.array([DAY, None])}),
        "lists": lambda: pa.table({"l": [[7], [1, 2], None, []]}).slice(1),
        "slice": lambda: pa.array([1, None, 3]).slice(1),
        "batch": lambda: pa.RecordBatch.from_arrays([pa.array([1, 2])], ["x"]).slice(1),
        "scalar": lambda: pa.array([3])[0],
        "no scalar": lambda: {"a": pa.array([None], pa.bool_())[0], "b": pa.array([1], pa.uint64())[0]},
        "cut off": lambda: {"t": pa.array([1], pa.time64("ns"))[0]},
        "date with a time": lambda: {"t": pa.array([1], pa.date64())[0]},
        "dictionaries": lambda: pa.chunked_array(
            [pa.array([n], pa.timestamp("ns")).dictionary_encode() for n in (1000, 1)]
        ),
    }


def xarray_cases(xr):
    series = xr.DataArray([1.5], dims="time", coords={"time": [NOON]})
    return {
        "array": lambda: xr.DataArray([[1.5, 2.5]], dims=("region", "day"), coords={"day": [3, 4]}, name="x"),
        "dataset": lambda: xr.Dataset({"x": ("day", [1.5, 2.5]), "total": 4.0}, coords={"day": [3, 4]}),
        "unnamed": lambda: xr.DataArray([1.5, 2.5], dims="day"),
        "scalars": lambda: xr.Dataset({"a": 1.5}),
        "row of scalars": lambda: {
            "t": series.idxmax(),
            "n": series.max(),
            "i": (series * 2).astype("i8").sum(),
        },
        "scalar times": lambda: xr.Dataset({"t": series.time[0].drop_vars("time")}),
    }


def jax_cases(jax):
    jnp = jax.numpy
    return {
        "matrix": lambda: jnp.arange(4, dtype="int32").reshape(2, 2),
        "row": lambda: {"a": jnp.float32(1.5), "b": jnp.int32(2), "c": jnp.bool_(True), "d": "x", "e": None},
        "short floats": lambda: jnp.ones(2, "bfloat16"),
        "key": lambda: jax.random.key(0),
    }


def load(path):
    spec = importlib.util.spec_from_file_location("_modelops_values", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.to_outputs


def digests(to_outputs, libraries):
    """{library:case: digest of its outputs, or the refusal} and {library: version}."""
    makers = {"numpy": numpy_cases, "pandas": pandas_cases, "polars": polars_cases}
    makers.update({"pyarrow": pyarrow_cases, "xarray": xarray_cases, "jax": jax_cases})
    cases = {f"python:{name}": build for name, build in python_cases().items()}
    versions = {"python": sys.version.split()[0]}
    for library in libraries:
        module = importlib.import_module(library)
        versions[library] = module.__version__
        cases.update({f"{library}:{name}": build for name, build in makers[library](module).items()})
    found = {}
    for name, build in cases.items():
        value = build()
        try:
            found[name] = hashlib.sha256(repr(sorted(to_outputs(value).items())).encode()).hexdigest()[:16]
        except TypeError as refusal:
            found[name] = str(refusal)
    return found, versions


if __name__ == "__main__":
    print(json.dumps(digests(load(sys.argv[1]), sys.argv[2:])))
