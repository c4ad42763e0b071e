"""Redos: the tasks to run again, with their generation; the files of redo/.

    redo/NNNNNN.json  put-if-absent; NNNNNN is the generation of its rows, from 1

A redo is written, durably, before any of it runs, and is never changed. From then on the rows of its tasks
with a lower generation do not count. Sets and replicates are those of the store, so later extensions of the
study are not in it. Tasks are stored as rectangles of sets and replicates: usually just one.

A store with a redo has format 3, which versions without redos refuse to read: they would count the wrong
rows.

Tasks are chosen in selection.py, and rows are judged in generations.py.
"""

import json
from dataclasses import dataclass, field

import numpy as np

from modelops_dask.plan.plan import Plan
from modelops_dask.store.files import Store
from modelops_dask.store.identity import REDO_FORMAT, Damaged, read_json, read_study, upgrade
from modelops_dask.store.study import ranges

FOLDER = "redo"
Ranges = tuple[tuple[int, int], ...]  # half-open


@dataclass(frozen=True)
class Redo:
    """Tasks to run again.

    Attributes:
        generation: Of the rows that count; 1 for the first redo of a store.
        selection: The selection as typed, such as executor=direct.
        tasks: Rectangles: ranges of sets, and ranges of replicates, all of which are in the redo.
        request: The id that a Job's pods share, because they may ask again; "" for a command.
    """

    generation: int
    selection: str
    tasks: tuple[tuple[Ranges, Ranges], ...] = field(repr=False)
    request: str = ""

    def mask(self, plan: Plan) -> np.ndarray:
        """Which tasks of a plan are in it, bool (n_sets, replicates)."""
        mask = np.zeros((plan.n_sets, plan.replicates), bool)
        for sets, replicates in self.tasks:
            is_included = np.zeros(plan.replicates, bool)
            for start, stop in replicates:
                is_included[start:stop] = True
            for start, stop in sets:
                mask[start:stop] |= is_included
        mask[plan.absent] = False
        return mask


def read_redos(store: Store) -> list[Redo]:
    """All redos of a store, by generation: [] for most stores. Raises Damaged if one is missing or
    unreadable.
    """
    names = store.list(FOLDER)
    redos = []
    for generation, name in enumerate(names, 1):
        if name != _file_name(generation):
            raise Damaged(store.location(FOLDER), f"{name} in place of {_file_name(generation)}")
        raw = read_json(store, f"{FOLDER}/{name}")
        try:
            redos.append(_parse(raw, generation))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise Damaged(store.location(f"{FOLDER}/{name}"), reason) from error
    return redos


def create_redo(store: Store, redo: Redo) -> bool:
    """Write a redo, and return whether its generation was still free. The store then has format 3."""
    study = read_study(store)
    if study.format < REDO_FORMAT:
        upgrade(store, study, REDO_FORMAT)
    tasks = [{"sets": sets, "replicates": replicates} for sets, replicates in redo.tasks]
    content = {"generation": redo.generation, "redo": redo.selection, "request": redo.request, "tasks": tasks}
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"
    return store.create(f"{FOLDER}/{_file_name(redo.generation)}", data.encode())


def as_rectangles(mask: np.ndarray) -> tuple[tuple[Ranges, Ranges], ...]:
    """The tasks that a mask, bool (n_sets, replicates), selects: one rectangle for all sets with the same
    replicates.
    """
    sets = np.flatnonzero(mask.any(axis=1))
    if not len(sets):
        return ()
    patterns, which = np.unique(np.packbits(mask[sets], axis=1), axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    bounds = np.searchsorted(which.ravel()[order], np.arange(len(patterns) + 1))
    rectangles = []
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        own_sets = sets[order[start:stop]]
        rectangles.append((ranges(own_sets), ranges(np.flatnonzero(mask[own_sets[0]]))))
    return tuple(sorted(rectangles))


def _file_name(generation: int) -> str:
    return f"{generation:06}.json"


def _parse(raw: dict[str, object], generation: int) -> Redo:
    if raw["generation"] != generation:
        raise ValueError(f"its generation is {raw['generation']!r}")
    tasks = raw["tasks"]
    if not isinstance(tasks, list):
        raise TypeError("tasks is not a list")
    return Redo(
        generation=generation,
        selection=str(raw["redo"]),
        request=str(raw.get("request") or ""),
        tasks=tuple((_parse_ranges(area["sets"]), _parse_ranges(area["replicates"])) for area in tasks),
    )


def _parse_ranges(raw: list[list[int]]) -> Ranges:
    parsed = tuple((start, stop) for start, stop in raw)
    if any(type(bound) is not int or bound < 0 for pair in parsed for bound in pair):
        raise ValueError(f"{raw} are not ranges of numbers")
    return parsed
