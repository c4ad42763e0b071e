"""Whether the seed matters: parts of outputs that are equal for all seeds, and those with other sources.

    results of replicates in new processes -> parts (a column, a value in JSON) that no seed changes
    results of one task run repeatedly in one process -> those of the parts that vary

A part that no seed changes and that varies in a process is drawn from a generator that is never seeded. State
that only stays or grows is process reuse. experiment.py runs the tasks.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from modelops_dask.diagnose.verdict.comparison import TaskRun
from modelops_dask.plan.plan import PlannedTask
from modelops_dask.store.replicates import OutputVariation, Variation, is_same_result, read_content

Part = tuple[str, str]  # an output, and a column of it or a path in its JSON; "" for the whole


@dataclass(frozen=True)
class SeedUse:
    """What replicates with different seeds have in common.

    n_pairs of results were compared, each with the first of its set. `constant` parts are equal in all of
    them. is_unused: nothing varies, in enough sets with enough seeds to be sure.
    """

    n_pairs: int = 0
    constant: frozenset[Part] = frozenset()
    is_unused: bool = False


def compare_seeds(results: Iterable[tuple[PlannedTask, TaskRun]]) -> SeedUse:
    """Compare results that ended ok, of tasks that each ran in a separate process."""
    by_set: defaultdict[int, dict[int, tuple[PlannedTask, TaskRun]]] = defaultdict(dict)
    for task, task_run in results:
        if task_run.status == "ok":
            by_set[task.set].setdefault(task.seed, (task, task_run))
    n_pairs = 0
    parts: set[Part] = set()
    varying: set[Part] = set()
    constant_sets: dict[int, int] = {}
    for number, by_seed in by_set.items():
        (first, first_run), *others = by_seed.values()
        contents = dict(list_parts(first_run))
        varied = False
        for task, task_run in others:
            n_pairs += 1
            other_contents = dict(list_parts(task_run))
            parts |= contents.keys() | other_contents.keys()
            for part in contents.keys() | other_contents.keys():
                pair = contents.get(part), other_contents.get(part)
                if not is_same_result(*pair, first, task):
                    varying.add(part)
                    varied = True
        if others and not varied:
            constant_sets[number] = len(by_seed)
    n_sets = sum(len(by_seed) > 1 for by_seed in by_set.values())
    variation = Variation({"": OutputVariation(n_sets, constant_sets)})
    is_unused = bool(n_pairs) and not varying and variation.is_seed_unused
    return SeedUse(n_pairs, frozenset(parts - varying), is_unused)


def find_drawn_parts(runs: Sequence[TaskRun], parts: Iterable[Part]) -> list[Part]:
    """Those of the parts that vary from run to run of one task in one process."""
    contents = [dict(list_parts(task_run)) for task_run in runs if task_run.status == "ok"]
    return sorted(part for part in parts if _goes_up_and_down([content.get(part) for content in contents]))


def list_parts(task_run: TaskRun) -> Iterator[tuple[Part, object]]:
    """The parts of a result, with their values; a digest if an output was not stored."""
    outputs: Mapping[str, bytes] = task_run.outputs or {}
    for name, digest in task_run.digests.items():
        content = read_content(outputs[name]) if name in outputs else digest
        for path, value in _split(content):
            yield (name, path), value


def describe_part(part: Part) -> str:
    """A readable name of a part."""
    output, path = part
    return f"output {output}, {path}" if path else f"output {output}"


def _split(content: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _split(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, content


def _goes_up_and_down(values: Sequence[object]) -> bool:
    """Whether a value, or one at the same position in lists, rises and falls."""
    columns = zip(*(list(_flatten(value)) for value in values), strict=False)
    for column in columns:
        try:
            steps = [(later > earlier) - (later < earlier) for earlier, later in pairwise(column)]
        except TypeError:  # of different kinds
            continue
        if 1 in steps and -1 in steps:
            return True
    return False


def _flatten(value: object) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _flatten(element)
    elif isinstance(value, dict):
        yield json.dumps(value, sort_keys=True, default=str)
    else:
        yield value
