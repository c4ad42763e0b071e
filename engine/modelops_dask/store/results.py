"""Read the results of a study in Python.

    from modelops_dask.store.results import results
    results("out/sir", "curve").to_pandas().groupby(["param_beta", "day"]).infected.median()

These are the tasks of the last request. opened() also returns those of any other study file that was run into
the store, in a temporary folder. Only results/ itself is written: it is built if it is missing or older than
the store's contents, and always has the tables of the last request.
"""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modelops_dask.errors import BadInput
from modelops_dask.plan.plan import Plan
from modelops_dask.plan.spec import Spec
from modelops_dask.store.compact import FOLDER, current_manifest, pieces, read_manifest, table_names
from modelops_dask.store.files import Store
from modelops_dask.store.output_names import show_name, show_names
from modelops_dask.store.requests import is_last, plan_of

REPLICATES = "replicates"
SHOWN_NAMES = 10  # outputs named in a message


class NoOutput(BadInput):
    """The study has no output of that name, or several and none was named."""

    def __init__(
        self,
        location: str,
        name: str | None,
        names: list[str],
        left_out: Collection[str] = (),
        n_pending: int = 0,
    ) -> None:
        self.location, self.name, self.names, self.left_out = location, name, names, left_out
        self.n_pending = n_pending
        super().__init__(location, name, names, left_out, n_pending)

    def __str__(self) -> str:
        name_list = show_names(self.names)
        if self.name is None:
            return f"{self.location} has {len(self.names)} outputs; name one of {name_list}"
        shown_name = show_name(self.name)
        if self.name in self.left_out:
            return (
                f"{self.location} does not store output {shown_name}: the study file lists others under "
                "`outputs`. Add it there and run the study again: its tasks are then run again"
            )
        near = get_close_matches(self.name, self.names, 1)
        hint = f"did you mean {show_name(near[0])}?" if near else f"it has {name_list}"
        if self.n_pending and not near:
            hint = (
                f"{self.n_pending:,} pending tasks may return it. So far it has {name_list}. "
                "`mops-helm study run` with the study file continues"
            )
        return f"{self.location} has no output {shown_name}; {hint}"


def describe_missing(missing: Collection[str], returned: Collection[str], tasks: str) -> str:
    """Report outputs that the study file lists but these tasks did not return; "" if none is missing.

    `returned` has the names of outputs that tasks did return.
    """
    lines = []
    for name in missing:
        near = get_close_matches(name, sorted(returned), 1)
        hint = f"; did you mean {show_name(near[0])}?" if near else ""
        lines.append(f"{tasks} returned an output {name!r}, which the study file lists under `outputs`{hint}")
    if lines:
        shown = [name if len(name) <= 40 else f"{name[:37]}..." for name in sorted(returned)[:SHOWN_NAMES]]
        n_hidden = len(returned) - len(shown)
        remainder = f" and {n_hidden:,} more" if n_hidden else ""
        lines.append(f"Returned were: {', '.join(map(repr, shown)) or 'none'}{remainder}")
    return "\n".join(lines)


def find_missing_outputs(store: Store, plan: Plan) -> str:
    """Report outputs that the study file lists but results/ has no table of; "" if none is missing."""
    manifest = read_manifest(store) if plan.request.outputs and is_last(store, plan) else None
    if manifest is None or set(manifest.get("outputs", ())) != set(plan.request.outputs):
        return ""
    returned = {*table_names(manifest).values(), *manifest.get("left_out", ())}
    return describe_missing(manifest.get("missing", ()), returned, "No task")


@dataclass(frozen=True)
class Output:
    """One table of results/, which may be larger than memory. `where` is a Parquet file, or a folder of them,
    for other programs.
    """

    store: Store
    where: str  # not renamed: programs outside this repository read it
    pieces: tuple[str, ...]

    @property
    def n_rows(self) -> int:
        return sum(file.metadata.num_rows for file in self._opened())

    @property
    def schema(self) -> pa.Schema:
        return next(self._opened()).schema_arrow

    def batches(self, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """The table in batches of at most n_rows rows, in the order of the tasks."""
        for file in self._opened():
            yield from file.iter_batches(rows, use_threads=False)

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        first = next(self.batches(rows), None)
        return pa.Table.from_batches([] if first is None else [first], self.schema)

    def table(self) -> pa.Table:
        """The whole table, in memory."""
        # Arrow's threads may outlive the read and abort a process that ends immediately: 16 of 40 times.
        return pa.concat_tables([file.read(use_threads=False) for file in self._opened()])

    def _opened(self) -> Iterator[pq.ParquetFile]:
        for piece in self.pieces:
            with self.store.open(f"{FOLDER}/{piece}") as file:
                yield pq.ParquetFile(file)


@dataclass(frozen=True)
class Tables:
    """The tables of one request of a store: `outputs` by name, and its `tasks` by state.

    `last` means that they are those of results/. Others are in a folder that is removed when they are closed.
    """

    store: str  # folder or URL
    last: bool
    outputs: dict[str, Output]
    tasks: dict[str, int]
    redo_pending: int = 0  # pending tasks that have to run again; their older results are left out
    left_out: tuple[str, ...] = ()  # outputs that tasks returned but the study does not store
    missing: tuple[str, ...] = ()  # outputs that the study lists but no task returned

    @property
    def missing_note(self) -> str:
        """A description of the missing outputs that the study file lists; "" if there are none."""
        return describe_missing(self.missing, {*self.outputs, *self.left_out} - {REPLICATES}, "No task")

    def output(self, name: str | None = None) -> Output:
        """One output; the name may be omitted if the model has only one. Raises NoOutput."""
        if name is None:
            names = [output for output in self.outputs if output != REPLICATES] or [REPLICATES]
            if len(names) > 1:
                raise NoOutput(self.store, None, names)
            name = names[0]
        if name not in self.outputs:
            n_pending = self.tasks.get("pending", 0)
            raise NoOutput(self.store, name, list(self.outputs), self.left_out, n_pending)
        return self.outputs[name]


@contextmanager
def opened(store: str | Path | Store, spec: Spec | None = None) -> Iterator[Tables]:
    """Open the tables of the tasks of a spec, or else of the last request, during the `with`.

    They are built first if they are missing or older than the parts. Those of an earlier request are built in
    a temporary folder, and results/ is unchanged. Raises NoStudy, NotInStore.
    """
    store = _as_store(store)
    plan = plan_of(store, spec)
    if is_last(store, plan):
        yield _build_tables(store, plan, store)
        return
    with tempfile.TemporaryDirectory(prefix="modelops-results-") as folder:
        yield _build_tables(store, plan, Store(folder))


def outputs(store: str | Path | Store) -> dict[str, Output]:
    """Everything that results() can return, by name; `replicates` is a row per task of the plan.

    The tables are built first if they are missing or older than the parts. Raises NoStudy.
    """
    store = _as_store(store)
    return _build_tables(store, plan_of(store), store).outputs


def output(store: str | Path | Store, name: str | None = None) -> Output:
    """One of outputs(); the name may be omitted if the model has only one. Raises NoStudy, NoOutput."""
    store = _as_store(store)
    return _build_tables(store, plan_of(store), store).output(name)


def _build_tables(store: Store, plan: Plan, results_store: Store) -> Tables:
    """Build the tables of a plan as results/ of the store itself, or of a folder for an earlier request."""
    manifest = current_manifest(store, plan, results_store=results_store)
    names = table_names(manifest)
    tables: dict[str, Output] = {}
    for table, parts in pieces(manifest).items():  # model_outputs/, raw/, replicates
        output = Output(results_store, results_store.location(f"{FOLDER}/{table}"), tuple(parts))
        tables.setdefault(names.get(table, REPLICATES), output)
    return Tables(
        store=store.location(),
        last=results_store is store,
        outputs=tables,
        tasks=manifest.get("tasks", {}),
        redo_pending=manifest.get("redo_pending", 0),
        left_out=tuple(manifest.get("left_out", ())),
        missing=tuple(manifest.get("missing", ())),
    )


def results(store: str | Path | Store, name: str | None = None) -> pa.Table:
    """One output of all ok tasks, as one table, in the order of the tasks.

    Columns: set, replicate, seed, param_id, one for every parameter, then those the model returned. An output
    that is not a table has one row per task and the column `bytes`. `replicates` has a row per task of the
    plan with its status, attempts, seconds and peak_bytes. The name may be omitted if the model has only one
    output. If the table does not fit into memory, use output(store, name).batches(), or any reader of Parquet
    on its `where`.

        >>> results("out/sir", "curve").column_names[:6]
        ['set', 'replicate', 'seed', 'param_id', 'param_beta', 'param_gamma']

    Raises NoStudy if there is no study, NoOutput if there is no such output.
    """
    return output(store, name).table()


def _as_store(store: str | Path | Store) -> Store:
    return store if isinstance(store, Store) else Store(str(store))
