"""Where two runs of a task differ: which output, column, row, path or byte, and how far."""

import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelops_dask.diagnose.verdict.comparison import find_example, record_outcome
from modelops_dask.executors import Outcome


def ran(status="ok", reason="", **outputs):
    return record_outcome(
        0, 0, Outcome(status, outputs, reason, error="Traceback\nValueError: no such room\n")
    )


def table(kind="parquet", **columns):
    made, file = pa.table(columns), io.BytesIO()
    if kind == "parquet":
        pq.write_table(made, file)
    else:
        with pa.ipc.new_stream(file, made.schema) as writer:
            writer.write_table(made)
    return file.getvalue()


def test_runs_agree_when_every_byte_does():
    assert ran(y=b"1").key == ran(y=b"1").key
    assert ran(y=b"1").key != ran(y=b"2").key
    assert ran(y=b"1").key != ran(z=b"1").key
    assert ran("failed", "ValueError").key != ran("failed", "KeyError").key
    assert ran("failed", "ValueError").key == ran("failed", "ValueError").key


def test_another_ending_is_told_in_words():
    found = find_example("0/1", ran(y=b"1"), ran("failed", "ValueError"))
    assert (found.task, found.kind, found.expected) == ("0/1", "status", "ok")
    assert found.found == "failed: ValueError: no such room"


@pytest.mark.parametrize("kind", ["parquet", "stream"])
def test_tables_differ_in_a_column_and_a_row(kind):
    one = table(kind, day=[0, 1, 2], n=[1.0, 2.0, 3.0])
    other = table(kind, day=[0, 1, 2], n=[1.0, 2.5, 4.0])
    found = find_example("0/0", ran(y=one), ran(y=other))
    assert (found.output, found.column, found.row, found.kind) == ("y", "n", 2, "different")
    assert (found.expected, found.found) == ("3.0", "4.0"), "the row with the difference that is shown"
    assert found.relative == pytest.approx(0.25)


def test_rounding_is_told_from_another_result():
    one, other = table(n=[1.0, 3.0]), table(n=[1.0, 3.0000000001])
    assert find_example("0/0", ran(y=one), ran(y=other)).kind == "rounding"
    mixed = table(n=[1.0, 3.0000000001], name=["a", "b"])
    assert find_example("0/0", ran(y=table(n=[1.0, 3.0], name=["a", "c"])), ran(y=mixed)).kind == "different"


def test_the_relative_difference_is_that_of_the_values_that_are_shown():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(50):
        one = [generator.uniform(1, 2) for _ in range(20)]
        other = [value + generator.choice((0, 1)) * generator.random() for value in one]
        other[7] += 0.1
        in_table = find_example("0/0", ran(y=table(n=one)), ran(y=table(n=other)))
        data = [json.dumps(values).encode() for values in (one, other)]
        in_json = find_example("0/0", *(ran(y=values) for values in data))
        for found in (in_table, in_json):
            expected, actual = float(found.expected), float(found.found)
            assert found.relative == pytest.approx(abs(expected - actual) / max(expected, actual))
        assert in_json.path == f"$[{in_table.row}]"


def test_missing_values_and_nan_are_no_difference_of_their_own():
    nan = float("nan")
    one, other = table(n=[nan, None, 1.0]), table(n=[nan, None, 2.0])
    assert find_example("0/0", ran(y=one), ran(y=other)).row == 2
    assert find_example("0/0", ran(y=table(n=[None, 1.0])), ran(y=table(n=[0.0, 1.0]))).row == 0


def test_tables_of_other_shapes():
    longer = find_example("0/0", ran(y=table(n=[1])), ran(y=table(n=[1, 2])))
    assert (longer.expected, longer.found) == ("1 rows", "2 rows")
    wider = find_example("0/0", ran(y=table(n=[1])), ran(y=table(n=[1], m=[2])))
    assert (wider.expected, wider.found) == ("n: int64", "n: int64, m: int64")
    made = pa.table({"n": [1]})
    file = io.BytesIO()
    pq.write_table(made.replace_schema_metadata({"made": "later"}), file)
    assert (
        find_example("0/0", ran(y=table(n=[1])), ran(y=file.getvalue())).found
        == "the same table in other bytes"
    )


def test_json_differs_at_a_path():
    one, other = {"runs": [{"n": 1}, {"n": 2}]}, {"runs": [{"n": 1}, {"n": 3}]}
    found = find_example("0/0", ran(y=json.dumps(one).encode()), ran(y=json.dumps(other).encode()))
    assert (found.path, found.expected, found.found, found.kind) == ("$.runs[1].n", "2", "3", "different")
    near = find_example("0/0", ran(y=b"[0.1]"), ran(y=b"[0.10000000000000001]"))
    assert near.found == "the same JSON in other bytes"


def test_other_bytes_differ_at_a_byte():
    found = find_example("0/0", ran(y=b"\0\1\2"), ran(y=b"\0\1\3"))
    assert (found.byte, found.output) == (2, "y")
    assert find_example("0/0", ran(y=b"\0\1"), ran(y=b"\0\1\3")).expected == "ends after 2 bytes"


def test_an_output_that_is_missing():
    found = find_example("0/0", ran(y=b"1", z=b"2"), ran(y=b"1"))
    assert (found.output, found.expected, found.found) == ("z", "there", "missing output")


def test_want_of_memory_is_known():
    assert ran("died", "TaskOOM").was_out_of_memory
    assert ran("failed", "MemoryError").was_out_of_memory
    assert not ran("failed", "ValueError").was_out_of_memory
