"""Parameter sets that a study file lists one by one, in either of two forms.

{name: value, …}                             parameters, whatever their names
{params: {name: value, …}, seed: NUMBER}     parameters, and perhaps the seed that the set runs once with

A mapping named `params` makes it the second form, and then nothing but a seed may stand beside it. What is
most likely meant to be the second form, but would be read as the first, is refused or warned about.
"""

import difflib
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelops_dask.study import contract
from modelops_dask.study.document import NAME, Where
from modelops_dask.study.fields import Fields
from modelops_dask.study.plan import keys, tabulate
from modelops_dask.study.sampling import Explicit, SetRow

_OF_STUDY = ("replicates", "n_replicates")
_LIKE_PARAMS = ("params", "parameters", "parameter_set")
_MOST = 20  # findings about one name: a generated file has the same slip in each of a million sets


def read_sets(read: Fields, raw: dict, key: str) -> Explicit | None:
    """The sets listed under a key, without those that are wrong, which are noted; None if there are none."""
    items = raw.get(key)
    if not isinstance(items, list) or not items:
        code = "TYPE" if items and not isinstance(items, list) else "EMPTY"
        read.note((key,), code, f"{key} must be a list of at least one parameter set")
        return None
    forms = _Forms(read, modelops=key == "parameter_sets")
    rows: list[SetRow] = []
    wrong: set[int] = set()
    for number, item in enumerate(items):
        before = len(read.findings)
        where: Where = (key, number)
        if not isinstance(item, dict):
            read.note(where, "TYPE", "a parameter set must be a mapping of names to values")
            wrong.add(number)
            continue
        params, seed, where = forms.read(item, where)
        for name, value in params.items():
            read.parameter((*where, name), value)
        if len(read.findings) > before:
            wrong.add(number)
        else:
            rows.append((params, seed))
    numbers = (number for number in range(len(items)) if number not in wrong)
    _note_repeated(read, key, numbers, keys(tabulate(Explicit(rows).chunks({}))))
    return Explicit(rows)


class _Forms:
    """Tells the two forms apart, and notes what is neither."""

    def __init__(self, read: Fields, modelops: bool) -> None:
        self._read, self._modelops = read, modelops
        self._noted: Counter[str] = Counter()

    def read(self, item: dict, where: Where) -> tuple[dict[str, Any], int | None, Where]:
        """Parameters, seed, and the place of the parameters, of a set."""
        params = item.get("params")
        if not isinstance(params, dict):
            self._check_flat(item, where)
            return item, None, where
        for name in item.keys() - {"params", "seed"}:
            self._note((*where, name), "UNKNOWN", _beside_params(name))
        seed = item.get("seed")
        if seed is not None and not contract.is_seed(seed):
            self._read.note((*where, "seed"), "SEED", "a seed must be a whole number from 0 to 2^64 - 1")
        return params, seed, (*where, "params")

    def _check_flat(self, item: dict, where: Where) -> None:
        """Refuse what cannot be meant as parameters alone; warn about what may not be."""
        beside = next((name for name in ("seed", *_OF_STUDY) if name in item), None)
        if beside and "params" in item and item["params"] is None:
            self._read.note((*where, "params"), "EMPTY", "params is empty; write names and values below it")
            return
        slip = next(
            (name for name, value in item.items() if isinstance(value, dict) and _is_slip(name)), None
        )
        if slip and beside:
            message = f"{slip} means nothing beside {beside}; did you mean params?"
            self._note((*where, slip), "UNKNOWN", message)
        elif slip:
            message = (
                f"{slip} is one parameter here; did you mean params? If not, write {{params: {{{slip}: …}}}}"
            )
            self._note((*where, slip), "SET_FORM", message, most=1)
        elif beside == "seed" and not self._modelops:
            message = (
                "seed is a parameter here, and seeds follow from the parameters; "
                "write {params: {…}, seed: …} for a seed, {params: {seed: …, …}} for a parameter"
            )
            self._note((*where, "seed"), "SET_FORM", message, most=1)

    def _note(self, where: Where, code: str, message: str, most: int = _MOST) -> None:
        """A finding at a name; the first ones of each name and code."""
        self._noted[f"{code} {where[-1]}"] += 1
        if self._noted[f"{code} {where[-1]}"] <= most:
            self._read.note((*where, NAME), code, message)


def _beside_params(name: str) -> str:
    if name in _OF_STUDY:
        return f"{name} means nothing in a set; write replicates for the whole study"
    near = difflib.get_close_matches(name, ("seed",), 1)
    hint = f"did you mean {near[0]}?" if near else "known here: params, seed; a parameter goes under params"
    return f"{name} means nothing here; {hint}"


@lru_cache(1024)
def _is_slip(name: str) -> bool:
    """Whether a name is `params`, misspelt."""
    return bool(difflib.get_close_matches(name.lower(), _LIKE_PARAMS, 1, 0.9))


def _note_repeated(read: Fields, key: str, numbers: Iterable[int], found: pa.Array) -> None:
    """`numbers` are those of the sets in the file, `found` what tells them apart."""
    if len(pc.unique(found)) == len(found):
        return
    first: dict[bytes, int] = {}
    for number, value in zip(numbers, found.to_pylist(), strict=True):
        if first.setdefault(value, number) != number:
            message = f"the same parameters and seed as set {first[value]}; remove it, or use replicates"
            read.note((key, number), "DUPLICATE_SET", message)
