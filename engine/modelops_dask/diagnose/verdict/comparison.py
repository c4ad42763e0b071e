"""Whether two runs of a task agree, and where they differ.

    Outcome -> TaskRun: status, reason, a digest of each output -> the same or not
    two TaskRun with their outputs -> Example: which output, column, row, path or byte, and the distance

Bytes decide; tables and JSON are only read to locate differences. The meaning of a difference is not judged
here.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.diagnose.result import Example
from modelops_dask.executors import Outcome
from modelops_dask.executors.runner import OUT_OF_MEMORY

ROUNDING = 1e-9  # relative difference up to which numbers differ only by rounding
TEXT = 80  # characters of a value that are shown
TIMEOUT = "TaskTimeout"
OF_MEMORY = (OUT_OF_MEMORY, "MemoryError")


RunKey = tuple[str, str, tuple[tuple[str, bytes], ...]]  # status, reason, digests by name of an output


class TaskRun(NamedTuple):
    """The end of a task in one run. `task` and `lane` are numbers of a trial; few store their `outputs`."""

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
    def key(self) -> RunKey:
        """Equal for runs that agree."""
        return self.status, self.reason, tuple(sorted(self.digests.items()))

    @property
    def was_out_of_memory(self) -> bool:
        return self.status != "ok" and self.reason in OF_MEMORY


def record_outcome(lane: int, task: int, outcome: Outcome, volatile: Collection[str] = ()) -> TaskRun:
    """A TaskRun with the compared properties of an outcome, and with its outputs, except volatile ones."""
    outputs = {name: data for name, data in outcome.outputs.items() if name not in volatile}
    return TaskRun(
        lane=lane,
        task=task,
        status=outcome.status,
        reason=outcome.reason,
        error=outcome.error.strip().rpartition("\n")[2][:1000],
        digests=digest_outputs(outputs),
        seconds=outcome.seconds,
        peak_bytes=outcome.peak_bytes,
        limit_bytes=outcome.limit_bytes,
        outputs=outputs,
    )


def digest_outputs(outputs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The compared digests, by name of an output."""
    return {name: hashlib.blake2b(output, digest_size=16).digest() for name, output in outputs.items()}


def find_example(task: str, expected: TaskRun, actual: TaskRun) -> Example:
    """Where two differing runs of a task differ: for tables and JSON, where they differ most."""
    if (expected.status, expected.reason) != (actual.status, actual.reason):
        return Example(
            task=task,
            output="",
            expected=_describe_ending(expected),
            found=_describe_ending(actual),
            kind="status",
        )
    names = sorted({*expected.digests, *actual.digests})
    name = next((name for name in names if expected.digests.get(name) != actual.digests.get(name)), "")
    if name not in expected.digests or name not in actual.digests:
        texts = ["there" if name in side.digests else "missing output" for side in (expected, actual)]
        return Example(task=task, output=name, expected=texts[0], found=texts[1], kind="different")
    if not (expected.outputs and actual.outputs):  # too large to store
        texts = [f"bytes with digest {side.digests[name].hex()}" for side in (expected, actual)]
        return Example(task=task, output=name, expected=texts[0], found=texts[1], kind="different")
    return _compare_bytes(task, name, expected.outputs[name], actual.outputs[name])


def _describe_ending(task_run: TaskRun) -> str:
    if task_run.status == "ok":
        return "ok"
    return f"{task_run.status}: {task_run.error or task_run.reason}"[: 3 * TEXT]


def _compare_bytes(task: str, output: str, expected: bytes, actual: bytes) -> Example:
    from modelops_dask.store.tables import as_table

    expected_table, actual_table = as_table(expected), as_table(actual)
    if expected_table is not None and actual_table is not None:
        return _compare_tables(task, output, expected_table, actual_table)
    try:
        expected_json, actual_json = json.loads(expected), json.loads(actual)
    except ValueError:
        pass
    else:
        return _compare_json(task, output, expected_json, actual_json)
    pairs = enumerate(zip(expected, actual, strict=False))
    offset = next((offset for offset, pair in pairs if pair[0] != pair[1]), min(len(expected), len(actual)))
    return Example(
        task=task,
        output=output,
        expected=_excerpt(expected, offset),
        found=_excerpt(actual, offset),
        kind="different",
        byte=offset,
    )


def _excerpt(data: bytes, offset: int) -> str:
    return _shorten(data[offset : offset + 16]) if offset < len(data) else f"ends after {len(data)} bytes"


# Tables


def _compare_tables(task: str, output: str, expected: pa.Table, actual: pa.Table) -> Example:
    def build_example(kind: str, expected_value: object, actual_value: object) -> Example:
        return Example(
            task=task,
            output=output,
            expected=_shorten(expected_value),
            found=_shorten(actual_value),
            kind=kind,
        )

    if expected.schema != actual.schema:
        names = [f"{field.name}: {field.type}" for field in expected.schema]
        others = [f"{field.name}: {field.type}" for field in actual.schema]
        return build_example("different", ", ".join(names), ", ".join(others))
    if expected.num_rows != actual.num_rows:
        return build_example("different", f"{expected.num_rows} rows", f"{actual.num_rows} rows")
    largest: tuple[str, int, object, object] | None = None
    relative = -1.0
    for name in dict.fromkeys(expected.column_names):
        expected_column, actual_column = expected[name], actual[name]
        if expected_column.equals(actual_column):
            continue
        are_equal = _equal_rows(expected_column, actual_column)
        for row in [row for row, is_equal in enumerate(are_equal) if not is_equal]:
            expected_value, actual_value = expected_column[row].as_py(), actual_column[row].as_py()
            difference = _relative_difference(expected_value, actual_value)
            if difference > relative:
                relative, largest = difference, (name, row, expected_value, actual_value)
    if largest is None:
        return build_example("different", "a table", "the same table in other bytes")
    column, row, expected_value, actual_value = largest
    kind = "rounding" if relative <= ROUNDING else "different"
    example = build_example(kind, expected_value, actual_value)
    return replace(example, column=column, row=row, relative=relative if math.isfinite(relative) else None)


def _equal_rows(left: pa.ChunkedArray, right: pa.ChunkedArray) -> list[bool]:
    """Row by row; a missing value equals a missing one, and NaN equals NaN."""
    equal: list[bool | None]
    if pa.types.is_floating(left.type):
        both_nan = pc.and_kleene(pc.is_nan(left), pc.is_nan(right))
        equal = pc.or_kleene(pc.equal(left, right), both_nan).to_pylist()
    else:
        equal = [a == b for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True)]
    both_null = pc.and_(pc.is_null(left), pc.is_null(right)).to_pylist()
    return [bool(is_equal or is_null) for is_equal, is_null in zip(equal, both_null, strict=True)]


# JSON


def _compare_json(task: str, output: str, expected: object, actual: object) -> Example:
    differences = list(_find_differences(expected, actual, "$"))
    if not differences:
        return Example(
            task=task,
            output=output,
            expected="JSON",
            found="the same JSON in other bytes",
            kind="different",
        )
    path, expected_value, actual_value = max(
        differences, key=lambda difference: _relative_difference(*difference[1:])
    )
    largest = _relative_difference(expected_value, actual_value)
    return Example(
        task=task,
        output=output,
        expected=_shorten(expected_value),
        found=_shorten(actual_value),
        kind="rounding" if largest <= ROUNDING else "different",
        path=path,
        relative=largest if math.isfinite(largest) else None,
    )


def _find_differences(left: object, right: object, path: str) -> Iterator[tuple[str, object, object]]:
    """(path, left value, right value) of all differences between two JSON documents."""
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        for key in left:
            yield from _find_differences(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (left_element, right_element) in enumerate(zip(left, right, strict=True)):
            yield from _find_differences(left_element, right_element, f"{path}[{number}]")
    elif left != right and not (left != left and right != right):  # NaN equals NaN
        yield path, left, right


def _relative_difference(left: object, right: object) -> float:
    """The relative difference of two numbers; infinite for anything else."""
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return math.inf
    if not (math.isfinite(left) and math.isfinite(right)):
        return math.inf
    size = max(abs(left), abs(right))
    return abs(left - right) / size if size else 0.0


def _shorten(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= TEXT else f"{text[: TEXT - 3]}..."
