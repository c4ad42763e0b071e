"""Tables as models return them, and Parquet files that collect them.

bytes -> as_table() -> TableFile: identity columns added, types promoted, written in pieces

Tables of one output may differ from task to task: a missing column becomes null, integers become floats if
some are, and a column without values takes the type of the others (column_types.py). Tables that cannot be
joined without changing a value (text and numbers in one column) raise Mixed; the caller stores them as bytes.

Parts and results/ are not known here: compact.py knows them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.store import neutral
from modelops_dask.store.column_types import DoesNotFit, choose_type, fit_column, join_types, type_of_values
from modelops_dask.store.task_columns import Identity

PIECE_BYTES = 256 * 2**20


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


def _rename_columns(identity_names: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """Rename the model's columns that have our names, so that no name occurs twice: a name in the file for
    each name of the model. The order of the names does not matter.
    """
    renamed = {name: name for name in names}
    taken = {*identity_names, *renamed}
    for name in sorted(taken.intersection(identity_names, renamed)):
        new_name = name + "_model"
        while new_name in taken:
            new_name += "_model"
        taken.add(new_name)
        renamed[name] = new_name
    return renamed


class TableFile:
    """A Parquet file to which tables are added; flush() writes the added rows as one row group.

    A file that grows beyond PIECE_BYTES becomes a folder of that name, of files "part-NNNNN.parquet" in
    order: readers of Parquet accept both.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path, self._identity = path, identity
        self._types: dict[str, pa.DataType] = {}  # of the model's columns, joined as tables are added
        self._declared: dict[str, set[pa.DataType]] = {}  # types of columns without values
        self._joined: pa.Schema | None = None  # of these types
        self._schema: pa.Schema | None = None  # the schema that is written, with the model's names
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
        if not self._holds(table):
            self._join(table)
        self._indices.append(index)
        self._tables.append(table)

    def flush(self) -> None:
        if self._schema is None or not self._tables:
            return
        rows = pa.concat_tables([_fit_table(table, self._schema) for table in self._tables])
        table = self._identity.columns(np.concatenate(self._indices))
        for field, column in zip(self._file_fields(self._schema), rows.columns, strict=True):
            table = table.append_column(field, column)
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

    def _file_fields(self, schema: pa.Schema) -> list[pa.Field]:
        """The model's columns as they are in the file."""
        names = _rename_columns(self._identity.names, schema.names)
        return [field.with_name(names[field.name]) for field in schema]

    def _end_piece(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _holds(self, table: pa.Table) -> bool:
        """Whether a table adds nothing to the types so far; for most tables this is a quick check."""
        if self._joined is None or table.schema.equals(self._joined):
            return self._joined is not None
        if len(set(table.column_names)) < table.num_columns:
            return False
        for field, column in zip(table.schema, table.columns, strict=True):
            if field.type != self._types.get(field.name):
                is_declared = field.type in self._declared.get(field.name, ())
                if not is_declared or column.null_count < len(column):
                    return False
        return True

    def _join(self, table: pa.Table) -> None:
        """Widen the schema so that it also holds the table. Raises Mixed, and then changes nothing."""
        _check_columns(table)
        candidates = {name: [kind] for name, kind in self._types.items()}
        declared = {name: set(kinds) for name, kinds in self._declared.items()}
        for field, column in zip(table.schema, table.columns, strict=True):
            kind = type_of_values(column)
            candidates[field.name] = self._list_types(field.name, kind, column)
            if not kind.equals(field.type):
                declared.setdefault(field.name, set()).add(field.type)
        while True:
            types = {name: kinds[0] for name, kinds in candidates.items()}
            schema = pa.schema(
                [(name, choose_type(kind, declared.get(name, ()))) for name, kind in types.items()]
            )
            try:
                if self._pieces and schema != self._schema:
                    self._widen(schema)
                break
            except DoesNotFit as error:  # a value that is already written
                name = str(error)
                if len(candidates[name]) == 1:
                    raise Mixed(_describe_conflict(name, table[name].type, self._types[name])) from None
                del candidates[name][0]
        self._types, self._declared, self._schema = types, declared, schema
        self._joined = pa.schema(list(types.items()))

    def _list_types(self, name: str, kind: pa.DataType, column: pa.ChunkedArray) -> list[pa.DataType]:
        """The types that hold the values of a column and earlier unwritten values. Raises Mixed."""
        former = self._types.get(name, pa.null())
        kinds = [
            joined_type
            for joined_type in join_types(former, kind)
            if _fits(column, joined_type)
            and (joined_type.equals(former) or self._fit_before(name, joined_type))
        ]
        if not kinds:
            raise Mixed(_describe_conflict(name, kind, former))
        return kinds

    def _fit_before(self, name: str, kind: pa.DataType) -> bool:
        """Whether a type holds the values of a column that are not written yet."""
        tables = [table for table in self._tables if name in table.column_names]
        return all(_fits(table[name], kind) for table in tables)

    def _widen(self, schema: pa.Schema) -> None:
        """Write all pieces again with promoted columns of the model. Raises DoesNotFit, and writes none, if a
        value does not fit.

        Rare: a type widens a few times.
        """
        assert self._schema is not None  # that of the pieces
        was_open = self._writer is not None
        self._end_piece()
        own_schema = self._identity.columns(np.empty(0, np.int64)).schema
        full_schema = pa.schema([*own_schema, *self._file_fields(schema)])
        columns = range(len(own_schema), len(own_schema) + len(self._schema))
        wide_pieces = [piece.with_suffix(".wide") for piece in self._pieces]
        try:
            for piece, wide_piece in zip(self._pieces, wide_pieces, strict=True):
                self._end_piece()
                self._writer = _writer(wide_piece, full_schema)
                with pq.ParquetFile(piece) as file:
                    for batch in file.iter_batches():
                        table = pa.Table.from_batches([batch])
                        rows = table.select(columns).rename_columns(self._schema.names)
                        arrays = [*table.columns[: len(own_schema)], *_fit_table(rows, schema).columns]
                        self._writer.write_table(pa.Table.from_arrays(arrays, schema=full_schema))
        except DoesNotFit:
            self._end_piece()
            for wide_piece in wide_pieces:
                wide_piece.unlink(missing_ok=True)
            raise
        for piece, wide_piece in zip(self._pieces, wide_pieces, strict=True):
            wide_piece.rename(piece)
        if not was_open:
            self._end_piece()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd")


def _check_columns(table: pa.Table) -> None:
    """Raise Mixed for a table that Parquet or its readers cannot hold."""
    names = table.column_names
    if repeated := {name for name in names if names.count(name) > 1}:
        raise Mixed(f"it has several columns named {min(repeated)}")
    try:
        pq.write_table(table.schema.empty_table(), pa.BufferOutputStream())
    except pa.ArrowException as error:
        raise Mixed(f"Parquet cannot hold it: {error}") from None


def _describe_conflict(name: str, kind: pa.DataType, former: pa.DataType) -> str:
    kinds = join_types(former, kind)
    reason = f", and a value of this or an earlier task does not fit {kinds[-1]}" if kinds else ""
    return f"{name} is {kind} and was {former} before{reason}"


def _fits(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        fit_column(column, kind)
    except DoesNotFit:
        return False
    return True


def _fit_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with a schema's columns: cast, or null if it has none. Raises DoesNotFit with a name."""
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        try:
            columns.append(
                fit_column(table[field.name], field.type)
                if field.name in table.column_names
                else pa.nulls(len(table), field.type)
            )
        except DoesNotFit:
            raise DoesNotFit(field.name) from None
    return pa.Table.from_arrays(columns, schema=schema)
