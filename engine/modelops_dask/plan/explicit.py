"""Parameter sets that a study file lists individually, in one of two forms.

    {name: value, …}                             parameters of any name
    {params: {name: value, …}, seed: NUMBER}     parameters, and optionally the seed of the set's single run

A mapping named `params` selects the second form, which allows only a seed next to it. A set that is probably
meant as the second form, but would be read as the first, is refused or causes a warning.
"""

import difflib
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.documents.nodes import NodePath
from modelops_dask.plan import contract
from modelops_dask.plan.document import NAME
from modelops_dask.plan.fields import Fields
from modelops_dask.plan.plan import keys, tabulate
from modelops_dask.plan.sampling import Explicit, SetRow

_OF_STUDY = ("replicates", "n_replicates")
_LIKE_PARAMS = ("params", "parameters", "parameter_set")
_MAX_FINDINGS = 20  # findings per name: a generated file may have the same mistake in each of a million sets


def read_sets(fields: Fields, raw: dict[str, object], key: str) -> Explicit | None:
    """Read the sets listed under a key and record invalid ones; None if there is no list."""
    items = raw.get(key)
    if not isinstance(items, list) or not items:
        code = "TYPE" if items and not isinstance(items, list) else "EMPTY"
        message = f"{key} must be a list of at least one parameter set"
        if isinstance(items, str):
            message += (
                ", such as [{r0: 2.5}]; a file of sets is not read, and docs/studies.md shows how to copy "
                "its rows"
            )
        fields.note((key,), code, message)
        return None
    forms = _Forms(fields, modelops=key == "parameter_sets")
    rows: list[SetRow] = []
    wrong_numbers: set[int] = set()
    for number, item in enumerate(items):
        n_findings = len(fields.findings)
        node_path: NodePath = (key, number)
        if not isinstance(item, dict):
            fields.note(node_path, "TYPE", "a parameter set must be a mapping of names to values")
            wrong_numbers.add(number)
            continue
        params, seed, node_path = forms.read_item(item, node_path)
        for name, value in params.items():
            fields.parameter((*node_path, name), value)
        if len(fields.findings) > n_findings:
            wrong_numbers.add(number)
        else:
            rows.append((params, seed))
    numbers = (number for number in range(len(items)) if number not in wrong_numbers)
    _note_repeated(fields, key, numbers, keys(tabulate(Explicit(rows).chunks({}))))
    return Explicit(rows)


class _Forms:
    """Distinguishes the two forms, and records what is neither."""

    def __init__(self, fields: Fields, modelops: bool) -> None:
        self._fields, self._modelops = fields, modelops
        self._noted: Counter[str] = Counter()

    def read_item(
        self, item: dict[str, object], node_path: NodePath
    ) -> tuple[dict[str, object], int | None, NodePath]:
        """Read a set: its parameters, its seed, and the path of its parameters."""
        params = item.get("params")
        if not isinstance(params, dict):
            self._check_flat(item, node_path)
            return item, None, node_path
        for name in item.keys() - {"params", "seed"}:
            self._note((*node_path, name), "UNKNOWN", _beside_params(name))
        seed = item.get("seed")
        if seed is None or contract.is_seed(seed):
            return params, seed, (*node_path, "params")
        self._fields.note((*node_path, "seed"), "SEED", "a seed must be a whole number from 0 to 2^64 - 1")
        return params, None, (*node_path, "params")

    def _check_flat(self, item: dict[str, object], node_path: NodePath) -> None:
        """Refuse a set that cannot be parameters only; warn about a doubtful one."""
        study_field = next((name for name in ("seed", *_OF_STUDY) if name in item), None)
        if study_field and "params" in item and item["params"] is None:
            self._fields.note(
                (*node_path, "params"), "EMPTY", "params is empty; write names and values below it"
            )
            return
        slip = next(
            (name for name, value in item.items() if isinstance(value, dict) and _is_slip(name)), None
        )
        if slip and study_field:
            message = f"unknown field {slip} next to {study_field}; did you mean params?"
            self._note((*node_path, slip), "UNKNOWN", message)
        elif slip:
            message = (
                f"{slip} is one parameter here; did you mean params? If not, write {{params: {{{slip}: …}}}}"
            )
            self._note((*node_path, slip), "SET_FORM", message, most=1)
        elif study_field == "seed" and not self._modelops:
            message = (
                "seed is a parameter here, and seeds follow from the parameters; "
                "write {params: {…}, seed: …} for a seed, {params: {seed: …, …}} for a parameter"
            )
            self._note((*node_path, "seed"), "SET_FORM", message, most=1)

    def _note(self, node_path: NodePath, code: str, message: str, most: int = _MAX_FINDINGS) -> None:
        """Record a finding at a name, unless there are already `most` of that name and code."""
        self._noted[f"{code} {node_path[-1]}"] += 1
        if self._noted[f"{code} {node_path[-1]}"] <= most:
            self._fields.note((*node_path, NAME), code, message)


def _beside_params(name: str) -> str:
    if name in _OF_STUDY:
        return f"{name} is not a field of a set; write replicates for the whole study"
    near = difflib.get_close_matches(name, ("seed",), 1)
    hint = f"did you mean {near[0]}?" if near else "expected params or seed; a parameter goes under params"
    return f"unknown field {name}; {hint}"


@lru_cache(1024)
def _is_slip(name: str) -> bool:
    """Whether a name is a misspelling of `params`."""
    return bool(difflib.get_close_matches(name.lower(), _LIKE_PARAMS, 1, 0.9))


def _note_repeated(fields: Fields, key: str, numbers: Iterable[int], set_keys: pa.Array) -> None:
    """Record repeated sets: `numbers` are those of the sets in the file, `set_keys` identify sets."""
    if len(pc.unique(set_keys)) == len(set_keys):
        return
    first_numbers: dict[bytes, int] = {}
    for number, value in zip(numbers, set_keys.to_pylist(), strict=True):
        if first_numbers.setdefault(value, number) != number:
            message = (
                f"the same parameters and seed as set {first_numbers[value]}; remove it, or use replicates"
            )
            fields.note((key, number), "DUPLICATE_SET", message)
