"""Why a value cannot be stored, and what to return instead. Standard library only: see neutral.py."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from typing import Any

if __package__:
    from modelops_dask.return_values import neutral
else:  # by path in values.py, which loads that module first
    neutral = sys.modules["_modelops_neutral"]

# An attribute of a type -> what to write instead, for a value called VALUE; the first match.
_ADVICE = (
    ("__fspath__", "return VALUE.read_bytes() for what the file holds, or str(VALUE) for its name"),
    (
        "savefig",
        "save it with buffer = io.BytesIO(); VALUE.savefig(buffer), and return buffer.getvalue()",
    ),
    ("getvalue", "return VALUE.getvalue()"),
    ("readline", "return VALUE.read()"),
    (
        "tocoo",
        "return VALUE.toarray(), or row, col and data of VALUE.tocoo() as three columns",
    ),
    ("todense", "return VALUE.todense()"),
    ("to_dense", "return VALUE.to_dense()"),
    ("compute", "return VALUE.compute()"),
    ("to_pandas", "return VALUE.to_pandas()"),
    ("toPandas", "return VALUE.toPandas()"),
    ("to_dataframe", "return VALUE.to_dataframe()"),
    ("to_df", "return VALUE.to_df()"),
    ("to_frame", "return VALUE.to_frame()"),
    ("magnitude", "return VALUE.to(UNIT).magnitude, with the unit in the name of the output or column"),
    ("to_dict", "return VALUE.to_dict()"),
    ("as_dict", "return VALUE.as_dict()"),
    ("to_numpy", "return VALUE.to_numpy()"),
    ("toarray", "return VALUE.toarray()"),
    ("tolist", "return VALUE.tolist()"),
)
_FIELDS = ("_fields", "__dataclass_fields__", "__attrs_attrs__", "__struct_fields__", "model_fields")
_ANYTHING = "return the data that you need from it: numbers, text, bytes, a dict or list of these, or a table"


def refuse(value: object) -> neutral.Refused:
    """The refusal of a value."""
    kind = type(value)
    name = "path" if hasattr(kind, "__fspath__") else kind.__name__.lower()
    is_pythons_own = kind.__module__ in ("builtins", "_io", "io")
    advice = _advise(value).replace("VALUE", "value" if is_pythons_own else name)
    return neutral.Refused(f"is {describe_type(value)}, which is not stored: {advice}")


def refuse_unit(array: object, unit: str) -> neutral.Refused:
    """The refusal of an array that has a unit."""
    return neutral.Refused(
        f"is {describe_type(array)} in the unit {unit}, which would be lost: return its plain numbers, with "
        "the unit in the name"
    )


def describe_type(value: object) -> str:
    """A type's name with its package, such as "a Figure (matplotlib)"."""
    kind = type(value)
    if value is None:
        return "None"
    package = kind.__module__.partition(".")[0]
    article = "an" if kind.__qualname__[:1] in "AEIOUaeiou" else "a"
    return f"{article} {kind.__qualname__}" + ("" if package in ("builtins", "pathlib") else f" ({package})")


def _advise(value: Any) -> str:
    kind = type(value)
    if isinstance(value, (set, frozenset)):
        return "its order varies; return sorted(VALUE)"
    if isinstance(value, complex) or "complex" in kind.__name__:
        return "return {'real': VALUE.real, 'imag': VALUE.imag}"
    if isinstance(value, dict) or any(hasattr(kind, attribute) for attribute in _FIELDS):
        return "flatten it, by an entry or a column for each of its own entries"
    if kind.__name__ in ("longdouble", "float96", "float128"):
        return "return float(VALUE), which rounds it, or array.astype(float) for many"
    if kind.__name__ == "void":
        return "return VALUE.tobytes(), or each of its fields as an array of its own"
    if isinstance(value, BaseException):
        return "raise it, so that the task fails with it"
    if isinstance(value, type) or (callable(value) and hasattr(kind, "__code__")):
        return "call it, and return its result"
    for attribute, advice in _ADVICE:
        if hasattr(kind, attribute):
            return advice
    if callable(value):
        return "call it, and return its result"
    if hasattr(kind, "__float__"):
        return "return float(VALUE)"
    return _ANYTHING
