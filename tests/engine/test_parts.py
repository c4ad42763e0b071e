"""Parts: written whole, read back as written, and told from what is torn or foreign."""

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelops_dask import __version__
from modelops_dask.store import parts
from modelops_dask.store.failures import error_digest
from modelops_dask.store.parts import Attempt
from store_helpers import parquet

ROWS = [
    Attempt(
        0,
        0,
        2**64 - 1,
        "ok",
        outputs={"a": b"\x00\xff" * 100, "b": b""},
        seconds=0.25,
        peak_bytes=2**40,
        threads=1,
    ),
    Attempt(
        0,
        1,
        0,
        "failed",
        reason="ValueError",
        error="Traceback …\nValueError: unlucky\n",
        failure="model",
        log="ü",
        executor="direct",
        environment="e",
    ),
    Attempt(7, 0, 5, "died", reason="killed by signal 9", limit_bytes=10),
    Attempt(7, 1, 6, "poisoned"),
]


def test_round_trip(files):
    name = parts.write(files, ROWS)
    with parts.open_part_file(files, name.removeprefix("parts/")) as part:
        rows = part.read().to_pylist()
    for row in rows:
        row["outputs"] = dict(row["outputs"])
    digests = [row.pop("digest") for row in rows]
    assert all(time.time() - 60 < row.pop("ended") <= time.time() for row in rows)
    each = {name: parts.outputs_digest({name: data}) for name, data in ROWS[0].outputs.items()}
    assert digests == [parts.outputs_digest(ROWS[0].outputs), None, None, None]
    assert [row.pop("output_digests") for row in rows] == [list(each.items()), None, None, None]
    assert {(row.pop("engine"), row.pop("generation")) for row in rows} == {(__version__, 0)}
    nothing = ("resumed", "origin", "reseeded", "left_out")
    assert {tuple(row.pop(name) for name in nothing) for row in rows} == {(None,) * 4}
    assert [row.pop("message") for row in rows] == [None, "ValueError: unlucky", None, None]
    assert [row.pop("error_digest") for row in rows] == [
        None,
        error_digest("model", "ValueError", ROWS[1].error),
        None,
        None,
    ]
    assert [Attempt(**row) for row in rows] == ROWS


def test_errors_of_tasks_wherever_their_rows_are(files):
    many = 2 * parts.ROW_GROUP + 10  # in three row groups
    rows = [Attempt(number, 1, 5, "failed", error=f"no {number}") for number in range(many)]
    parts.write(files, [*rows, Attempt(0, 0, 5, "ok")])
    parts.write(files, [Attempt(many, 1, 5, "failed", error="later"), Attempt(1, 1, 5, "ok")])
    asked = {(0, 0), (0, 1), (1, 1), (4096, 1), (4097, 1), (many - 1, 1), (many, 1), (many + 1, 1)}
    expected = {(n, 1): f"no {n}" for n in (0, 1, 4096, 4097, many - 1)} | {(many, 1): "later"}
    assert parts.read_errors(files, asked) == expected
    assert parts.read_errors(files, set()) == {}


def test_every_part_has_a_new_name(files):
    names = {parts.write(files, ROWS[:1]) for _ in range(5)}
    assert len(names) == 5 and sorted(names) == [f"parts/{name}" for name in files.list("parts")]
    with pytest.raises(ValueError):
        parts.write(files, [])


@pytest.mark.parametrize(
    "one, other, same",
    [
        ({"a": b"1", "b": b"2"}, {"b": b"2", "a": b"1"}, True),
        ({"a": b"1"}, {"a": b"2"}, False),
        ({"a": b"", "b": b"12"}, {"a": b"12", "b": b""}, False),
        ({"a": b"1b"}, {"a": b"1", "b": b""}, False),
        ({}, {"": b""}, False),
    ],
)
def test_digest_of_outputs(one, other, same):
    assert (parts.outputs_digest(one) == parts.outputs_digest(other)) is same


def read(files, name="x.parquet"):
    with parts.open_part_file(files, name) as part:
        part.read()


def test_torn_at_every_place(files):
    data = parts.encode(ROWS * 300)
    whole = (
        set(range(0, len(data), max(1, len(data) // (200 if files.folder else 10))))
        | set(range(12))
        | set(range(len(data) - 12, len(data)))
    )
    for length in sorted(whole):
        files.put("parts/x.parquet", data[:length])
        with pytest.raises(parts.NotAPart, match="torn" if length not in (1, 2, 3) else "foreign|torn"):
            read(files)
    files.put("parts/x.parquet", data)
    read(files)


def test_a_damaged_page_is_found(files):
    data = bytearray(
        parts.encode([Attempt(i, 0, i, "ok", outputs={"a": bytes([i % 251]) * 50}) for i in range(3000)])
    )
    with pq.ParquetFile(pa.BufferReader(bytes(data))) as part:
        column = part.metadata.row_group(0).column(part.schema_arrow.names.index("seed"))
    at = column.data_page_offset + column.total_compressed_size // 2
    data[at] ^= 0xFF
    files.put("parts/x.parquet", bytes(data))
    with pytest.raises(parts.NotAPart, match="torn"):
        read(files)


@pytest.mark.parametrize(
    "name, data", [("readme.txt", b"hello"), ("x.parquet", b"hello, I am no part at all")]
)
def test_foreign(files, name, data):
    files.put(f"parts/{name}", data)
    with pytest.raises(parts.NotAPart, match="foreign"):
        read(files, name)


def test_a_table_of_something_else_is_foreign(files):
    files.put("parts/x.parquet", parquet(pa.table({"set": [1]})))
    with pytest.raises(parts.NotAPart, match="foreign"):
        read(files)
