"""Whether two runs of a task agree, and where they do not.

Outcome -> Seen: status, reason, a digest of each output -> the same or not
two Seen with their bytes -> Example: which output, column, row, path or byte, and how far apart

Bytes decide; tables and JSON are only read to say where. Does not judge what a difference means.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.diagnose.result import Example
from modelops_dask.executors import Outcome
from modelops_dask.executors.runner import OUT_OF_MEMORY

ROUNDING = 1e-9  # relative difference up to which numbers differ by rounding
TEXT = 80  # characters of a value that are shown
TIMEOUT = "TaskTimeout"
OF_MEMORY = (OUT_OF_MEMORY, "MemoryError")


class Seen(NamedTuple):
    """A task as it ended once. `task` and `lane` are numbers of a trial; few keep their `outputs`."""

    lane: int
    task: int
    status: str
    reason: str = ""
    error: str = ""
    digests: Mapping[str, bytes] = {}
    seconds: float = 0.0
    peak_bytes: int = 0
    limit_bytes: int = 0
    outputs: Mapping[str, bytes] | None = None

    @property
    def key(self) -> tuple:
        """Equal for runs that agree."""
        return self.status, self.reason, tuple(sorted(self.digests.items()))

    @property
    def lacked_memory(self) -> bool:
        return self.status != "ok" and self.reason in OF_MEMORY


def seen(lane: int, task: int, outcome: Outcome) -> Seen:
    """What an outcome is compared by, and its bytes."""
    return Seen(
        lane,
        task,
        outcome.status,
        outcome.reason,
        outcome.error.strip().rpartition("\n")[2][:1000],
        {name: hashlib.blake2b(data, digest_size=16).digest() for name, data in outcome.outputs.items()},
        outcome.seconds,
        outcome.peak_bytes,
        outcome.limit_bytes,
        outcome.outputs,
    )


def example(task: str, expected: Seen, found: Seen) -> Example:
    """Where two runs of a task that do not agree differ first."""
    if (expected.status, expected.reason) != (found.status, found.reason):
        return Example(task, "", _ending(expected), _ending(found), "status")
    names = sorted({*expected.digests, *found.digests})
    name = next((name for name in names if expected.digests.get(name) != found.digests.get(name)), "")
    if name not in expected.digests or name not in found.digests:
        there = ("no such output", "there")
        one, other = (there[name in side.digests] for side in (expected, found))
        return Example(task, name, one, other, "different")
    if not (expected.outputs and found.outputs):  # too large to keep
        one, other = (side.digests[name].hex() for side in (expected, found))
        return Example(task, name, f"bytes with digest {one}", f"bytes with digest {other}", "different")
    return _bytes(task, name, expected.outputs[name], found.outputs[name])


def _ending(one: Seen) -> str:
    return "ok" if one.status == "ok" else f"{one.status}: {one.error or one.reason}"[: 3 * TEXT]


def _bytes(task: str, output: str, expected: bytes, found: bytes) -> Example:
    from modelops_dask.store.tables import as_table

    tables = as_table(expected), as_table(found)
    if None not in tables:
        return _tables(task, output, *tables)
    try:
        parsed = json.loads(expected), json.loads(found)
    except ValueError:
        pass
    else:
        return _json(task, output, *parsed)
    at = next((i for i, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        at = min(len(expected), len(found))
    return Example(task, output, _piece(expected, at), _piece(found, at), "different", byte=at)


def _piece(data: bytes, at: int) -> str:
    return _short(data[at : at + 16]) if at < len(data) else f"ends after {len(data)} bytes"


# Tables


def _tables(task: str, output: str, expected: pa.Table, found: pa.Table) -> Example:
    def named(kind: str, one: object, other: object, **where: Any) -> Example:
        return Example(task, output, _short(one), _short(other), kind, **where)

    if expected.schema != found.schema:
        names = [f"{field.name}: {field.type}" for field in expected.schema]
        others = [f"{field.name}: {field.type}" for field in found.schema]
        return named("different", ", ".join(names), ", ".join(others))
    if expected.num_rows != found.num_rows:
        return named("different", f"{expected.num_rows} rows", f"{found.num_rows} rows")
    first, largest = None, 0.0
    for name in dict.fromkeys(expected.column_names):
        one, other = expected[name], found[name]
        if one.equals(other):
            continue
        rows = [row for row, same in enumerate(_same(one, other)) if not same]
        for row in rows:
            values = one[row].as_py(), other[row].as_py()
            first = first or (name, row, *values)
            largest = max(largest, _apart(*values))
    if first is None:
        return named("different", "a table", "the same table in other bytes")
    column, row, one, other = first
    kind = "rounding" if largest <= ROUNDING else "different"
    relative = largest if math.isfinite(largest) else None
    return named(kind, one, other, column=column, row=row, relative=relative)


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> list[bool]:
    """Row by row; missing values are the same as each other, and NaN as NaN."""
    if pa.types.is_floating(one.type):
        equal = pc.or_kleene(pc.equal(one, other), pc.and_kleene(pc.is_nan(one), pc.is_nan(other)))
    else:
        equal = pa.array([a == b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)])
    nulls = pc.and_(pc.is_null(one), pc.is_null(other))
    return pc.or_(pc.fill_null(equal, False), nulls).to_pylist()


# JSON


def _json(task: str, output: str, expected: object, found: object) -> Example:
    pairs = list(_apart_in(expected, found, "$"))
    if not pairs:
        return Example(task, output, "JSON", "the same JSON in other bytes", "different")
    path, one, other = pairs[0]
    largest = max(_apart(a, b) for _, a, b in pairs)
    kind = "rounding" if largest <= ROUNDING else "different"
    relative = largest if math.isfinite(largest) else None
    return Example(task, output, _short(one), _short(other), kind, path=path, relative=relative)


def _apart_in(one: object, other: object, path: str):
    """(path, value, other value) wherever two JSON documents differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _apart_in(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _apart_in(left, right, f"{path}[{number}]")
    elif one != other and not (one != one and other != other):  # NaN is as NaN
        yield path, one, other


def _apart(one: object, other: object) -> float:
    """The relative difference of two numbers; infinite for anything else."""
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    if not numbers or not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    size = max(abs(one), abs(other))
    return abs(one - other) / size if size else 0.0


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= TEXT else f"{text[: TEXT - 3]}..."
