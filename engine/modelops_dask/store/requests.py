"""Which tasks of a store are requested: those of its last request, or those of a study file.

    nothing, or a Spec -> plan_of() -> Plan;   Plan -> is_last() -> whether results/ belongs to it

Sets keep their numbers, so a study file always requests the same tasks of a store, and requests need no
record: the file that a Job was submitted with, or that a run was started with, is sufficient.

Sets are not added and nothing is written here: study.begin() does that.
"""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.errors import BadInput
from modelops_dask.plan.plan import Plan, keys
from modelops_dask.plan.spec import Spec
from modelops_dask.store.files import Store
from modelops_dask.store.identity import read_study
from modelops_dask.store.study import last_request, ranges, read_plan, read_sets


class NotInStore(BadInput):
    """A study file was never run in a store: its parameter sets are missing there."""

    def __init__(self, location: str, spec: str, missing: int, total: int) -> None:
        super().__init__(location, spec, missing, total)
        self.location, self.spec, self.missing, self.total = location, spec, missing, total

    def __str__(self) -> str:
        return (
            f"{self.location} does not have {self.missing:,} of the {self.total:,} parameter sets of "
            f"{self.spec}: it was never run there. Run it there first, or wait for the run that was "
            "submitted."
        )


def plan_of(store: Store, spec: Spec | None = None) -> Plan:
    """Return the plan of a store for the tasks of a spec, or else of the last request.

    Raises NoStudy, NotInStore, and BadInput for a spec of another entrypoint.
    """
    if spec is None:
        return read_plan(store)
    study = read_study(store)
    if spec.entrypoint != study.entrypoint:
        raise BadInput(
            f"{store.location()} holds results of {study.entrypoint}, but {spec.path} is a study of "
            f"{spec.entrypoint}. Name a study file that was run there."
        )
    table = read_sets(store)
    return Plan(study.entrypoint, table, spec.request(ranges(_numbers(store, spec, table))))


def numbers_in_spec(store: Store, spec: Spec, sets: Collection[int]) -> dict[int, int]:
    """Map numbers of sets in the store to their numbers in the study file. Raises NotInStore."""
    numbers = _numbers(store, spec, read_sets(store))
    places = np.flatnonzero(np.isin(numbers, list(sets))).tolist()
    return {int(numbers[place]): place for place in places}


def _numbers(store: Store, spec: Spec, table: pa.Table) -> np.ndarray:
    """The number in the store of each set of a spec, int (n,)."""
    numbers = pc.index_in(keys(spec.table), value_set=keys(table))
    if numbers.null_count:
        raise NotInStore(store.location(), str(spec.path), numbers.null_count, len(numbers))
    return numbers.to_numpy()


def is_last(store: Store, plan: Plan) -> bool:
    """Whether the store's last request has the tasks and outputs of this plan. Raises NoStudy, Damaged."""
    last, request = last_request(store), plan.request
    same_outputs = set(last.outputs) == set(request.outputs)
    return same_outputs and (last.replicates, last.sets) == (request.replicates, request.sets)
