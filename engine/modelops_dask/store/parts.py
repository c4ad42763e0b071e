"""Parts: what workers did, a row per attempt at a task.

attempts of one batch -> parts/UUID.parquet -> fold.py, compact.py

A part has a new name, is written once, whole and durable, and is never edited; it is the unit of loss: a
batch that dies leaves no part, and its tasks are still pending. Workers write the rows of their own attempts;
the driver writes those of tasks whose worker died. Outputs are kept as the model returned them.

`digest` is a hash of the outputs, so that two ok rows of one task can be compared without reading them.

Does not decide what a row means: fold.py does.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.errors import MopsError
from modelops_dask.store.files import Files

FOLDER = "parts"
OUTPUTS = pa.map_(pa.string(), pa.large_binary())  # large: a batch may return more than 2 GiB
SCHEMA = pa.schema(
    [
        ("set", pa.uint32()),
        ("replicate", pa.uint32()),
        ("seed", pa.uint64()),
        ("status", pa.dictionary(pa.int8(), pa.string())),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("log", pa.string()),
        ("peak_bytes", pa.int64()),
        ("limit_bytes", pa.int64()),
        ("threads", pa.int32()),
        ("environment", pa.string()),
        ("executor", pa.string()),
        ("preset", pa.string()),
        ("seconds", pa.float64()),
        ("ended", pa.float64()),
        ("digest", pa.binary(16)),
        ("outputs", OUTPUTS),
    ],
    metadata={"modelops_dask": "part 1"},
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one task.

    ok: `outputs` holds the model's bytes. failed: the model raised. died: the process that ran it is gone.
    poisoned: it died alone, so it is the task that kills. `reason` is short and the same for like failures,
    `error` the traceback, `log` the end of what the model printed. `threads` is the BLAS thread count and
    `environment` a digest of the packages, for both change a result's bytes. 0 bytes: not known, or no limit.
    `ended` is when, in seconds since the epoch by the writer's clock: for people, nothing is decided by it.
    """

    set: int
    replicate: int
    seed: int
    status: Literal["ok", "failed", "died", "poisoned"]
    reason: str = ""
    error: str = ""
    log: str = ""
    peak_bytes: int = 0
    limit_bytes: int = 0
    threads: int = 0
    environment: str = ""
    executor: str = ""
    seconds: float = 0.0
    outputs: dict[str, bytes] = field(default_factory=dict)
    preset: str = ""
    ended: float = field(default_factory=time.time, compare=False)


_PLAIN = [name for name in SCHEMA.names if name not in ("digest", "outputs")]


def write(files: Files, attempts: Sequence[Attempt]) -> str:
    """Write the attempts of a batch as one part, durably; its name. ValueError when there is none."""
    if not attempts:
        raise ValueError("a part needs at least one attempt")
    name = f"{FOLDER}/{uuid.uuid4().hex}.parquet"
    files.put(name, encode(attempts))
    return name


def encode(attempts: Sequence[Attempt]) -> bytes:
    """The bytes of a part."""
    columns = [pa.array([getattr(a, name) for a in attempts], SCHEMA.field(name).type) for name in _PLAIN]
    columns.append(
        pa.array([outputs_digest(a.outputs) if a.status == "ok" else None for a in attempts], pa.binary(16))
    )
    columns.append(pa.array([list(a.outputs.items()) for a in attempts], OUTPUTS))
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=SCHEMA),
        sink,
        compression="zstd",
        compression_level=1,
        row_group_size=4096,  # compaction reads a row group at a time
        use_dictionary=["status", "reason", "environment", "executor", "preset"],
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def outputs_digest(outputs: dict[str, bytes]) -> bytes:
    """16 bytes that two equal sets of outputs share, whatever their order."""
    hasher = blake2b(digest_size=16)
    for name, data in sorted(outputs.items()):
        head = name.encode()
        hasher.update(b"%d:%b%d:" % (len(head), head, len(data)))
        hasher.update(data)
    return hasher.digest()


class NotAPart(MopsError):
    """A file in parts/ that cannot be read; `reason` begins with torn or foreign."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        return (
            f"{FOLDER}/{self.name} cannot be read ({self.reason}). "
            "Move it out of the store and run the study again: its tasks are then run again."
        )


@contextmanager
def reading(files: Files, name: str) -> Iterator[pq.ParquetFile]:
    """An open part by its name in parts/; NotAPart when it, or within the `with` one of its pages, is bad."""
    if not name.endswith(".parquet"):
        raise NotAPart(name, "foreign: its name does not end in .parquet")
    with files.open(f"{FOLDER}/{name}") as file:
        ours = file.read(4) in (b"PAR1", b"")
        try:
            part = pq.ParquetFile(file, page_checksum_verification=True)
            if missing := set(SCHEMA.names) - set(part.schema_arrow.names):
                raise NotAPart(name, f"foreign: it has no column {min(missing)}")
            yield part
        except (pa.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise NotAPart(name, f"{'torn' if ours else 'foreign'}: {reason}") from error
