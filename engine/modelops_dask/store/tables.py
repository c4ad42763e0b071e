"""Tables as models return them, and Parquet files that collect them.

bytes -> as_table() -> TableFile: identity columns added, types promoted, written in pieces

Tables of one output may differ from task to task: a missing column becomes null, integers become floats if
some are. Tables that cannot be joined (text and numbers in one column) raise Mixed; the caller stores them as
bytes.

Parts and results/ are not known here: compact.py knows them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.plan import contract
from modelops_dask.plan.plan import Plan
from modelops_dask.store import neutral

COLUMNS = ("set", "replicate", "seed", "param_id")
PIECE_BYTES = 256 * 2**20
_DOES_NOT_FIT = "a value of this or an earlier task does not fit the common type of the column"


class Mixed(Exception):
    """A table that does not fit the earlier ones; str() explains why."""


def as_table(data: bytes) -> pa.Table | None:
    """A table from bytes in the neutral form, Arrow IPC (file or stream) or Parquet, detected from the first
    bytes; None for others.

    Dictionaries and views become plain values, because they differ from task to task without meaning.
    """
    try:
        if data[:8] == neutral.MAGIC:
            return neutral.read_table(data)
        if data[:4] == b"PAR1":
            table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        elif data[:6] == b"ARROW1":
            table = pa.ipc.open_file(data).read_all()
        elif data[:4] == b"\xff\xff\xff\xff":
            table = pa.ipc.open_stream(data).read_all()
        else:
            return None
        table.validate(full=True)  # otherwise damaged offsets would be followed
        fields = [field.with_type(_plain(field.type)) for field in table.schema]
        # a schema without metadata, because pandas' metadata would also differ
        return table.cast(pa.schema(fields))
    except (pa.ArrowException, OSError, neutral.DamagedTable):
        return None


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


class Identity:
    """The columns that identify a row's task: COLUMNS, and one for every parameter."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._params = _parameter_table(plan)
        self.names = (*COLUMNS, *self._params.column_names)

    def columns(self, index: np.ndarray) -> pa.Table:
        """int64 task indices, one for each row -> the row's columns."""
        tasks, task_positions = np.unique(index, return_inverse=True)  # a task may have a thousand rows
        sets, replicates = np.divmod(tasks, self._plan.replicates)
        rows = self._plan.table.take(pa.array(sets))
        ids = [digest.hex() for digest in rows["param_id"].to_pylist()]
        seeds = [
            contract.derived_seed(param_id, replicate) if seed is None else seed
            for param_id, replicate, seed in zip(
                ids, replicates.tolist(), rows["seed"].to_pylist(), strict=True
            )
        ]
        table = pa.table(
            {
                "set": pa.array(sets),
                "replicate": pa.array(replicates),
                "seed": pa.array(seeds, pa.uint64()),
                "param_id": pa.array(ids, pa.string()),
            }
        )
        for name in self._params.column_names:
            table = table.append_column(name, self._params[name].take(pa.array(sets)))
        return table.take(pa.array(task_positions))


def _rename_columns(identity_names: Sequence[str], names: Sequence[str]) -> list[str]:
    """Rename the model's columns that have our names, so that no name occurs twice."""
    renamed = []
    for name in names:
        if name in identity_names:
            name += "_model"
            while name in names:
                name += "_model"
        renamed.append(name)
    return renamed


class TableFile:
    """A Parquet file to which tables are added; flush() writes the added rows as one row group.

    A file that grows beyond PIECE_BYTES becomes a folder of that name, of files "part-NNNNN.parquet" in
    order: readers of Parquet accept both.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path, self._identity = path, identity
        self._schema: pa.Schema | None = None  # types of the model's columns, promoted as tables are added
        self._pieces: list[Path] = []
        self._writer: pq.ParquetWriter | None = None  # of the last piece, while it is open
        self._indices: list[np.ndarray] = []
        self._tables: list[pa.Table] = []

    def add(self, index: int, table: pa.Table) -> None:
        """Add rows that all belong to one task. Raises Mixed."""
        self.add_rows(np.full(table.num_rows, index), table)

    def add_rows(self, index: np.ndarray, table: pa.Table) -> None:
        """Add rows; row i belongs to task index[i]. Raises Mixed.

        A column of the model with one of our names gets the suffix "_model".
        """
        table = table.rename_columns(_rename_columns(self._identity.names, table.column_names))
        if self._schema is None or not self._schema.equals(table.schema):
            joined = _join_schemas(self._schema, [*self._tables, table])
            if self._pieces and self._schema is not None and not joined.equals(self._schema):
                self._widen(joined)
            self._schema = joined
        self._indices.append(index)
        self._tables.append(table)

    def flush(self) -> None:
        if self._schema is None or not self._tables:
            return
        rows = pa.concat_tables([_fit_table(table, self._schema) for table in self._tables])
        table = self._identity.columns(np.concatenate(self._indices))
        for name in rows.column_names:
            table = table.append_column(rows.schema.field(name), rows[name])
        self._indices, self._tables = [], []
        if self._writer is None:
            self.path.mkdir(exist_ok=True)
            self._pieces.append(self.path / f"part-{len(self._pieces):05}.parquet")
            self._writer = _writer(self._pieces[-1], table.schema)
        self._writer.write_table(table)
        if self._pieces[-1].stat().st_size >= PIECE_BYTES:
            self._end_piece()

    def close(self) -> None:
        """Write the remaining rows. A single piece becomes the file itself."""
        self.flush()
        self._end_piece()
        if len(self._pieces) == 1:
            single_piece = self._pieces[0].rename(self.path.with_suffix(".alone"))
            self.path.rmdir()
            single_piece.rename(self.path)

    def _end_piece(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _widen(self, schema: pa.Schema) -> None:
        """Write all pieces again with promoted columns of the model. Raises Mixed, and writes none, if a
        value does not fit.

        Rare: a type widens a few times.
        """
        was_open = self._writer is not None
        self._end_piece()
        full_schema = pa.schema([*self._identity.columns(np.empty(0, np.int64)).schema, *schema])
        wide_pieces = [piece.with_suffix(".wide") for piece in self._pieces]
        try:
            for piece, wide_piece in zip(self._pieces, wide_pieces, strict=True):
                self._end_piece()
                self._writer = _writer(wide_piece, full_schema)
                with pq.ParquetFile(piece) as file:
                    for batch in file.iter_batches():
                        self._writer.write_table(_fit_table(pa.Table.from_batches([batch]), full_schema))
        except pa.ArrowException:
            self._end_piece()
            for wide_piece in wide_pieces:
                wide_piece.unlink(missing_ok=True)
            raise Mixed(_DOES_NOT_FIT) from None
        for piece, wide_piece in zip(self._pieces, wide_pieces, strict=True):
            wide_piece.rename(piece)
        if not was_open:
            self._end_piece()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd")


def _join_schemas(schema: pa.Schema | None, tables: Sequence[pa.Table]) -> pa.Schema:
    """The schema that holds both the earlier tables and the last ones, which all fit it. Raises Mixed."""
    table = tables[-1]
    names = table.column_names
    if repeated := {name for name in names if names.count(name) > 1}:
        raise Mixed(f"it has several columns named {min(repeated)}")
    try:
        pq.write_table(table.schema.empty_table(), pa.BufferOutputStream())
    except pa.ArrowException as error:
        raise Mixed(f"Parquet cannot hold it: {error}") from None
    if schema is None:
        return table.schema
    try:
        joined = pa.unify_schemas([schema, table.schema], promote_options="permissive")
        for earlier_table in tables:
            _fit_table(earlier_table, joined)
    except pa.ArrowException:
        conflicts = [
            f"{field.name} is {field.type} and was {schema.field(field.name).type} before"
            for field in table.schema
            if field.name in schema.names and not _can_join(field, schema.field(field.name))
        ]
        raise Mixed(", ".join(conflicts) or _DOES_NOT_FIT) from None
    return joined


def _can_join(field: pa.Field, other: pa.Field) -> bool:
    try:
        pa.unify_schemas([pa.schema([field]), pa.schema([other])], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _fit_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of a schema: cast, or null if it has none."""
    if table.schema.equals(schema):
        return table
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _parameter_table(plan: Plan) -> pa.Table:
    """A column for each parameter, a row for each set; null if a set has no such parameter.

    Numbers, text and booleans keep their type, integers among floats become floats; all else is JSON text.
    """
    kinds: dict[str, set[type]] = {}
    for text in _texts(plan):
        for name, value in json.loads(text).items():
            kinds.setdefault(name, set()).add(_kind(value))
    types = {name: _arrow_type(value_types - {type(None)}) for name, value_types in sorted(kinds.items())}
    chunks: dict[str, list[pa.Array]] = {name: [] for name in types}
    for batch in plan.table["params"].chunks:
        sets = [json.loads(text) for text in batch.to_pylist()]
        for name, kind in types.items():
            values = [_fit_value(params.get(name), kind) for params in sets]
            chunks[name].append(pa.array(values, kind or pa.string()))
    columns = [
        pa.chunked_array(column_chunks, types[name] or pa.string()) for name, column_chunks in chunks.items()
    ]
    return pa.table(columns, names=[f"param_{name}" for name in types])


def _texts(plan: Plan) -> Iterator[str]:
    return (text for chunk in plan.table["params"].chunks for text in chunk.to_pylist())


def _kind(value: object) -> type:
    return object if type(value) is int and not -(2**63) <= value < 2**63 else type(value)


def _arrow_type(kinds: set[type]) -> pa.DataType | None:
    """None: as JSON text."""
    arrow_types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    if kinds == {int, float}:
        return pa.float64()
    return arrow_types.get(next(iter(kinds))) if len(kinds) == 1 else None


def _fit_value(value: object, kind: pa.DataType | None) -> object:
    if kind is None:
        return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return float(value) if kind == pa.float64() and isinstance(value, int | float) else value
