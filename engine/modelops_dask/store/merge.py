"""Merge the files of parts/ when there are thousands: opening each takes longer than reading it.

    parts/UUID.parquet, many -> parts/merged-DIGEST.parquet, durable -> the merged ones removed

Safe at every step, beside any reader, writer and other merge, without a lock. A merged file names the parts
whose rows it holds, and a reader takes each part once (parts.scan): cut short between writing and removing,
nothing counts twice, and the next merge removes what is left over. A file is removed only when all its parts
are durable in another one. Large files stay as they are, so a row is rewritten a few times at most.

Torn and foreign files are left where they are. Does not read what a row means: fold.py does.
"""

import json
from hashlib import blake2b

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.store.files import Files
from modelops_dask.store.parts import FOLDER, HELD, MERGED, SCHEMA, WRITING, NotAPart, held, reading

MERGE_OVER = 2000  # files
TARGET_BYTES = 128 * 2**20  # of a merged file, compressed; files of half that size are left alone
_GROUP_BYTES = 32 * 2**20
_GROUP_ROWS = 4096


def merge(files: Files, over: int = MERGE_OVER, target_bytes: int = TARGET_BYTES) -> int:
    """Merge the small files of parts/ when there are more than `over` files; how many were removed.

    Memory: about twice `target_bytes`, more where outputs compress well.
    """
    names = files.list(FOLDER)
    if len(names) <= over:
        return 0
    known: set[str] = set()  # parts that are durable in a large file or in the output
    small = []
    for name in names:
        size_bytes, parts = _measure(files, name)
        if size_bytes * 2 < target_bytes:
            small.append(name)
        else:
            known.update(parts)
    removed = 0
    output = _Output()
    for name in small:
        try:
            with reading(files, name) as file:
                spans, table = held(file, name), file.read(use_threads=False)
        except (FileNotFoundError, NotAPart):
            continue
        start = 0
        for part, count in spans:
            if part not in known:
                known.add(part)
                output.add(part, table.slice(start, count))
            start += count
        output.sources.append(name)
        if output.size_bytes >= target_bytes:
            removed += output.save(files)
            output = _Output()
    return removed + output.save(files)


def _measure(files: Files, name: str) -> tuple[int, list[str]]:
    """Compressed bytes of a file of parts/ and the parts it holds; (0, []) when it is no part or gone."""
    try:
        with reading(files, name) as file:
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            columns = [group.column(i) for group in groups for i in range(group.num_columns)]
            return sum(column.total_compressed_size for column in columns), [p for p, _ in held(file, name)]
    except (FileNotFoundError, NotAPart):
        return 0, []


class _Output:
    """A merged file while it grows in memory, and the files that it will stand for."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self._parts: list[tuple[str, int]] = []
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, SCHEMA, **WRITING)
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._sink.tell() + self._pending_bytes

    def add(self, part: str, rows: pa.Table) -> None:
        self._parts.append((part, rows.num_rows))
        self._pending.append(rows.select(SCHEMA.names).cast(SCHEMA))
        self._pending_rows += rows.num_rows
        self._pending_bytes += rows.nbytes
        if self._pending_rows >= _GROUP_ROWS or self._pending_bytes >= _GROUP_BYTES:
            self._flush()

    def save(self, files: Files) -> int:
        """Write the file, then remove those it stands for; how many."""
        self._flush()
        self._writer.add_key_value_metadata({HELD: json.dumps(self._parts)})
        self._writer.close()
        listed = "\n".join(part for part, _ in self._parts)
        name = f"{MERGED}{blake2b(listed.encode(), digest_size=16).hexdigest()}.parquet"
        if self._parts:
            # put, not create: one of that name, a digest of the parts in it, may be torn.
            files.put(f"{FOLDER}/{name}", self._sink.getvalue().to_pybytes())
        gone = [source for source in self.sources if source != name]  # alone in it, it is that file already
        for source in gone:
            files.remove(f"{FOLDER}/{source}")
        return len(gone)

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending), row_group_size=_GROUP_ROWS)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
