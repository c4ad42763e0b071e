"""The neutral form: two readers that share no code agree, and what is damaged or not canonical is named."""

import json
import random
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from modelops_dask.return_values import neutral as written
from modelops_dask.return_values.values import to_outputs, to_table
from modelops_dask.store import neutral, parts, verify_neutral
from modelops_dask.store.tables import as_table
from modelops_dask.store.verify import verify
from modelops_dask.store.verify_neutral import NotCanonical, read_neutral
from store_helpers import attempt, begin

NAN = float("nan")


def pad(data):
    return data + bytes(-len(data) % 8)


def form(head, *buffers):
    """A table of given bytes."""
    text = head.encode()
    return pad(written.MAGIC + struct.pack("<I", len(text)) + text) + b"".join(map(pad, buffers))


def ints(*numbers):
    return struct.pack(f"<{len(numbers)}q", *numbers)


def offsets(*numbers):
    return struct.pack(f"<{len(numbers)}i", *numbers)


CANONICAL = {
    "numbers": form('[2,["x","i8",1]]', b"\x02", ints(0, 7)),
    "truth": form('[2,["x","bool",1]]', b"\x02", b"\x02"),
    "text": form('[3,["é","text",1]]', b"\x05", offsets(0, 1, 1, 3), b"a\xc3\xa9"),
    "lists": form('[2,["x",["f8"],1]]', b"\x01", offsets(0, 1, 1), struct.pack("<d", NAN)),
    "times": form('[1,["x","timestamp[ns,Europe/Berlin]"]]', ints(1)),
    "decimals": form('[1,["x","decimal(3,2)"]]', (-125).to_bytes(16, "little", signed=True)),
    "nulls": form('[9,["x","null"]]', b"\0\0"),
    "nothing": form("[0]"),
    "no rows": form('[0,["x","text"]]', offsets(0)),
}
FAULTS = {  # what is wrong, words of the finding
    "a value under a null": (form('[2,["x","i8",1]]', b"\x02", ints(5, 7)), "values where it is null"),
    "a float under a null": (
        form('[1,["x","f8",1]]', b"\0", struct.pack("<d", -0.0)),
        "values where it is null",
    ),
    "truth under a null": (form('[2,["x","bool",1]]', b"\x02", b"\x03"), "values where it is null"),
    "text under a null": (
        form('[2,["x","text",1]]', b"\x02", offsets(0, 1, 2), b"ab"),
        "values where it is null",
    ),
    "items under a null": (
        form('[1,["x",["i8"],1]]', b"\0", offsets(0, 1), ints(3)),
        "values where it is null",
    ),
    "a decimal under a null": (
        form('[1,["x","decimal(3,2)",1]]', b"\0", ints(1, 0)),
        "values where it is null",
    ),
    "a time under a null": (form('[1,["x","duration[us]",1]]', b"\0", ints(1)), "values where it is null"),
    "no null where some are said to be": (form('[1,["x","i8",1]]', b"\x01", ints(5)), "has no null"),
    "bits after the last row": (form('[2,["x","i8",1]]', b"\x06", ints(0, 7)), "bits after its last row"),
    "truth after the last row": (form('[1,["x","bool"]]', b"\x03"), "bits after its last row"),
    "values of the type null": (form('[1,["x","null"]]', b"\1"), "type null and has values"),
    "offsets from 1": (form('[1,["x","text"]]', offsets(1, 2), b"ab"), "do not begin at 0"),
    "offsets that fall": (form('[2,["x","text"]]', offsets(0, 2, 1), b"a"), "do not begin at 0 and rise"),
    "text that is not UTF-8": (form('[1,["x","text"]]', offsets(0, 1), b"\xff"), "not UTF-8"),
    "half a character in a value": (form('[2,["x","text"]]', offsets(0, 1, 2), b"\xc3\xa9"), "not UTF-8"),
    "padding of a buffer": (form('[1,["x","i1"]]', b"\1\0\0\0\0\0\0\1"), "not padded with zeros"),
    "padding of the head": (form("[0]")[:-1] + b"\1", "not padded with zeros"),
    "a buffer is cut off": (form('[2,["x","i8"]]', ints(1)), "is cut off"),
    "padding is cut off": (form('[1,["x","i1"]]', b"\1")[:-1], "not padded with zeros"),
    "bytes too many": (form('[1,["x","i8"]]', ints(1, 2)), "8 bytes too many"),
    "another NaN": (form('[1,["x","f8"]]', struct.pack("<Q", 0xFFF8000000000000)), "NaN with other bits"),
    "another short NaN": (form('[1,["x","f4"]]', struct.pack("<I", 0x7FC00001)), "NaN with other bits"),
    "nanoseconds that are not needed": (form('[1,["x","timestamp[ns]"]]', ints(1000)), "no value needs them"),
    "a time of day after the day": (form('[1,["x","time[us]"]]', ints(86_400_000_000)), "time of day"),
    "a decimal with too many digits": (
        form('[1,["x","decimal(1,0)"]]', ints(10, 0)),
        "more digits than its type",
    ),
    "spaces in the head": (form('[1, ["x","i8"]]', ints(1)), "head is not written"),
    "escapes in the head": (form('[1,["\\u00e9","i8"]]', ints(1)), "head is not written"),
    "no JSON": (form("[1"), "head is not JSON"),
    "no list": (form("{}"), "head is not JSON"),
    "a head that is cut off": (written.MAGIC + b"\xff\0\0\0[0]", "head is not written"),
    "rows and no columns": (form("[1]"), "rows and no columns"),
    "a name twice": (form('[1,["x","i8"],["x","i8"]]', ints(1), ints(1)), "name twice"),
    "a column without a type": (form('[1,["x"]]'), "has no type"),
    "an unknown type": (form('[1,["x","i3"]]', ints(1)), "unknown type 'i3'"),
    "a zone of a duration": (form('[1,["x","duration[us,UTC]"]]', ints(1)), "unknown type"),
    "another flag": (form('[1,["x","i8",true]]', b"\1", ints(1)), "has no type"),
    "more rows than bytes": (form('[99999999,["x","null"]]', b"\0"), "is cut off"),
    "lists too deep": (form(f'[0,["x",{"[" * 9}"i8"{"]" * 9}]]', *[offsets(0)] * 9), "nested too deeply"),
}


def test_the_modules_agree_on_what_they_cannot_import_from_each_other():
    assert written.MAGIC == neutral.MAGIC == verify_neutral.START
    assert written.MOST_NESTED == neutral.MOST_NESTED == verify_neutral.DEEPEST


@pytest.mark.parametrize("name", CANONICAL)
def test_what_is_canonical_is_read_alike_by_both_readers(name):
    table, own = as_table(CANONICAL[name]), read_neutral(CANONICAL[name])
    assert own.schema == table.schema and repr(own.to_pydict()) == repr(table.to_pydict())


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_the_form_is_named(name):
    data, words = FAULTS[name]
    with pytest.raises(NotCanonical, match=words):
        read_neutral(data)


@pytest.mark.parametrize("files", ["folder"], indirect=True)
def test_verify_reports_each_fault_and_the_output(files, tmp_path, monkeypatch):
    monkeypatch.setattr("modelops_dask.store.verify_tasks.SHOWN", len(FAULTS))
    plan = begin(files, tmp_path, sets="[{a: 1}]", replicates=2)
    faults = {f"fault: {name}": data for name, (data, _) in FAULTS.items()}
    parts.write(files, [attempt(plan, 0, 0, outputs={**faults, **CANONICAL, "raw": b"x"})])
    parts.write(files, [attempt(plan, 0, 1, outputs=CANONICAL)])
    messages = [finding.message for finding in verify(files.location()).findings if finding.code == "TABLE"]
    assert len(messages) == len(FAULTS)
    for name, (_, words) in FAULTS.items():
        assert any(f"output fault: {name} of task 0/0" in text and words in text for text in messages), name


def random_column(rng, n):
    kind = rng.randrange(8)
    makers = [
        lambda: rng.choice([rng.random(), NAN, -0.0, None]),
        lambda: rng.choice([rng.getrandbits(63), -1, None]),
        lambda: rng.choice([True, False, None]),
        lambda: rng.choice(["", "é" * rng.randrange(5), "plain", None]),
        lambda: rng.choice([b"", rng.randbytes(9), None]),
        lambda: rng.choice([[], [1.5, None], None]),
        lambda: rng.choice([pd.Timestamp(rng.getrandbits(60)), None]),
        lambda: None,
    ]
    return [makers[kind]() for _ in range(n)]


def random_table(rng):
    n = rng.choice([0, 1, 7, 8, 9, 100])
    return to_table({f"column {i}": random_column(rng, n) for i in range(rng.randrange(1, 5))})


@pytest.mark.parametrize("turn", range(3))
def test_random_tables_are_canonical_and_read_alike(turn):
    seed = random.randrange(2**32)
    print("seed", seed, "turn", turn)
    rng = random.Random(seed)
    for _ in range(60):
        data = random_table(rng)
        table, own = as_table(data), read_neutral(data)
        assert own.schema == table.schema and repr(own.to_pydict()) == repr(table.to_pydict())


@pytest.mark.parametrize("turn", range(3))
def test_damaged_bytes_are_no_table_or_another_but_never_more(turn):
    """Bytes changed, cut off and repeated at random: a table or None, and all of it can be read."""
    seed = random.randrange(2**32)
    print("seed", seed, "turn", turn)
    rng = random.Random(seed)
    n_read = 0
    for _ in range(600):
        data = bytearray(random_table(rng) if rng.random() < 0.5 else rng.choice([*CANONICAL.values()]))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            change = rng.randrange(4)
            if change == 0:
                data[at] = rng.randrange(256)
            elif change == 1:
                data[at : at + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4), b"9999"])
            elif change == 2 and len(data) > 20:
                del data[-rng.randrange(1, 9) :]
            else:
                data += rng.randbytes(rng.randrange(9))
        data[:8] = written.MAGIC
        table = as_table(bytes(data))
        if table is not None:
            n_read += 1
            table.validate(full=True)
            assert table.num_rows <= 8 * len(data)
            [column.cast(column.type) and column.nbytes for column in table.columns]
        try:
            own = read_neutral(bytes(data))
        except NotCanonical:
            continue
        assert table is not None and own.schema == table.schema, "what one reader reads, the other does too"
    assert n_read, "some damage is to values alone"


def test_a_large_table_of_numbers_goes_by_buffers():
    """A million rows are read without a copy, and written without a step for each value."""
    numbers = np.arange(1e6)
    data = to_outputs({"x": numbers, "y": numbers})["result"]
    table = as_table(data)
    address = table["x"].chunk(0).buffers()[1].address
    assert pa.py_buffer(data).address < address < pa.py_buffer(data).address + len(data)
    assert table["y"].to_numpy().sum() == numbers.sum()


def test_the_head_of_a_small_row_is_small():
    data = to_outputs({"attack_rate": 0.5, "peak": 3})["result"]
    assert len(data) <= 72
    size = int.from_bytes(data[8:12], "little")
    assert json.loads(data[12 : 12 + size]) == [1, ["attack_rate", "f8"], ["peak", "i8"]]
