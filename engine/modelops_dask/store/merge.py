"""Merge the files of parts/ when there are thousands, because opening them takes longer than reading them.

    parts/UUID.parquet, many -> parts/merged-DIGEST.parquet, durable -> the merged ones removed

This is safe at every step, alongside any reader, writer and other merge, without a lock. A merged file names
the parts whose rows it holds, and a reader takes each part once (parts.scan): if a merge is interrupted
between writing and removing, nothing counts twice, and the next merge removes the rest. A file is removed
only when all its parts are durable in another one. Large files are not touched, so a row is rewritten a few
times at most.

A merged file has the metadata of every part in it, and the columns of a later version that a part may have.
Damaged files, and those that hold a part of another study, are not touched. The meaning of rows is not known
here: fold.py knows it.
"""

import json
from collections.abc import Callable
from hashlib import blake2b

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.store.files import Store
from modelops_dask.store.identity import study_of
from modelops_dask.store.parts import (
    FOLDER,
    HELD,
    HELD_METADATA,
    MERGED,
    SCHEMA,
    NotAPart,
    PartEntry,
    list_parts,
    open_part_file,
    writer_options,
)

MERGE_OVER = 2000  # files
TARGET_BYTES = 128 * 2**20  # of a merged file, compressed; files of half that size are not merged
_GROUP_BYTES = 32 * 2**20
_GROUP_ROWS = 4096


def merge(
    store: Store,
    max_files: int = MERGE_OVER,
    target_bytes: int = TARGET_BYTES,
    on_begin: Callable[[], object] = lambda: None,
) -> int:
    """Merge the small files of parts/ if there are more than `max_files`, and return how many were removed.

    on_begin() is called if there is something to do.

    Memory: about twice `target_bytes`, more if outputs compress well.
    """
    names = store.list(FOLDER)
    if len(names) <= max_files:
        return 0
    on_begin()
    durable_parts: set[str] = set()  # parts that are durable in a large file or in the output
    small = []
    for name in names:
        size_bytes, part_names = _measure(store, name)
        if size_bytes * 2 < target_bytes:
            small.append(name)
        else:
            durable_parts.update(part_names)
    removed = 0
    study = study_of(store)
    outputs: dict[pa.Schema, _Output] = {}  # by the columns of their parts
    for name in small:
        try:
            with open_part_file(store, name) as file:
                parts, table = list_parts(file, name), file.read(use_threads=False)
        except (FileNotFoundError, NotAPart):
            continue
        if study and any(study.refusal(part.mark) for part in parts):
            continue
        table = _aligned(table)
        if table.schema not in outputs:
            outputs[table.schema] = _Output(table.schema)
        output = outputs[table.schema]
        start = 0
        for part in parts:
            if part.name not in durable_parts:
                durable_parts.add(part.name)
                output.add(part, table.slice(start, part.n_rows))
            start += part.n_rows
        output.sources.append(name)
        if output.size_bytes >= target_bytes:
            removed += outputs.pop(table.schema).save(store)
    return removed + sum(output.save(store) for output in outputs.values())


def _measure(store: Store, name: str) -> tuple[int, list[str]]:
    """Compressed bytes of a file of parts/ and the names of its parts; (0, []) if it does not exist or is not
    a part.
    """
    try:
        with open_part_file(store, name) as file:
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            columns = [group.column(i) for group in groups for i in range(group.num_columns)]
            size_bytes = sum(column.total_compressed_size for column in columns)
            return size_bytes, [part.name for part in list_parts(file, name)]
    except (FileNotFoundError, NotAPart):
        return 0, []


def _aligned(table: pa.Table) -> pa.Table:
    """Put the columns of SCHEMA in order, null if the part lacks them, then columns of a later version."""
    for field in SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    aligned = table.select(SCHEMA.names).cast(SCHEMA)
    for name in sorted(set(table.column_names) - set(SCHEMA.names)):
        aligned = aligned.append_column(name, table[name])
    return aligned.replace_schema_metadata(SCHEMA.metadata)


class _Output:
    """A merged file while it grows in memory, and the files that it will replace."""

    def __init__(self, schema: pa.Schema) -> None:
        self.sources: list[str] = []
        self._parts: list[PartEntry] = []
        self._sink = pa.BufferOutputStream()
        self._schema = schema
        self._writer = pq.ParquetWriter(self._sink, schema, **writer_options(schema))
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._sink.tell() + self._pending_bytes

    def add(self, part: PartEntry, rows: pa.Table) -> None:
        self._parts.append(part)
        self._pending.append(rows)
        self._pending_rows += rows.num_rows
        self._pending_bytes += rows.nbytes
        if self._pending_rows >= _GROUP_ROWS or self._pending_bytes >= _GROUP_BYTES:
            self._flush()

    def save(self, store: Store) -> int:
        """Write the file, remove the files that it replaces, and return their number."""
        self._flush()
        self._writer.add_key_value_metadata(self._metadata())
        self._writer.close()
        part_names = "\n".join(part.name for part in self._parts)
        name = f"{MERGED}{blake2b(part_names.encode(), digest_size=16).hexdigest()}.parquet"
        if self._parts:
            # put, not create: an existing file of that name, a digest of its parts, may be damaged.
            store.put(f"{FOLDER}/{name}", self._sink.getvalue().to_pybytes())
        superseded = [source for source in self.sources if source != name]  # a single file may be that file
        for source in superseded:
            store.remove(f"{FOLDER}/{source}")
        return len(superseded)

    def _metadata(self) -> dict[bytes, str]:
        """The list of the parts and of their metadata, without repetitions."""
        texts = [json.dumps(dict(part.metadata), sort_keys=True) for part in self._parts]
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        described = {
            "distinct": [json.loads(text) for text in numbers],
            "of": [numbers[text] for text in texts],
        }
        row_counts = [[part.name, part.n_rows] for part in self._parts]
        return {HELD: json.dumps(row_counts), HELD_METADATA: json.dumps(described)}

    def _flush(self) -> None:
        if self._pending:
            table = pa.concat_tables(self._pending).unify_dictionaries()
            self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
