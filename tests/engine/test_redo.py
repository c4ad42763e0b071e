"""Redos: rows of a higher generation replace results, whatever order things happen in.

What the store says is compared with a reader that goes through all rows one by one, and with `verify`.
"""

import json
import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import study_helpers
from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.plan.plan import OK, PENDING, STATES, Plan
from modelops_dask.report.measurement import measure
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store import parts, study
from modelops_dask.store.compact import compact
from modelops_dask.store.files import Store
from modelops_dask.store.fold import State, counts, fold, read_generations, winners
from modelops_dask.store.identity import Damaged, read_study
from modelops_dask.store.merge import merge
from modelops_dask.store.redo import Redo, as_rectangles, create_redo, read_redos
from modelops_dask.store.replicates import compare_replicates
from modelops_dask.store.requests import plan_of
from modelops_dask.store.results import NoOutput, opened, output
from modelops_dask.store.selection import BadSelection, begin_redo, parse_selection
from modelops_dask.store.verify import verify
from modelops_dask.study.batch import leave_out
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.study.summary import Summary, read_summary
from modelops_dask.workers.local import local_cluster
from mops_helm.render.study_summary import render_redo
from store_helpers import DIGEST, attempt, begin, tree, with_seeds, write_spec

KINDS = ("direct", "isolated_warm", "isolated_fork", "cold")


# A reader that knows nothing of the engine's


def rows_of(files: Store) -> list[dict]:
    """Every row of every part, each part once."""
    rows, names = [], set()
    for name, data in sorted(tree(files).items()):
        if not name.startswith("parts/") or "/." in name:
            continue
        file = pq.ParquetFile(pa.BufferReader(data))
        table = file.read().to_pylist()
        metadata = file.metadata.metadata
        own = name.removeprefix("parts/").removesuffix(".parquet")
        listed = json.loads(metadata.get(b"modelops_dask.parts", b"null")) or [[own, len(table)]]
        start = 0
        for part, count in listed:
            if part not in names:
                rows += table[start : start + count]
            names.add(part)
            start += count
    return rows


def least_of(files: Store) -> dict[tuple[int, int], int]:
    """The highest redo that names each task."""
    least = {}
    for name, data in sorted(tree(files).items()):
        if name.startswith("redo/") and "/." not in name:
            redo = json.loads(data)
            for area in redo["tasks"]:
                for first, last in area["sets"]:
                    for start, stop in area["replicates"]:
                        least |= {
                            (number, replicate): redo["generation"]
                            for number in range(first, last)
                            for replicate in range(start, stop)
                        }
    return least


def counting(files: Store) -> dict[tuple[int, int], list[dict]]:
    """The rows of each task that count."""
    by_task, least = defaultdict(list), least_of(files)
    for row in rows_of(files):
        by_task[row["set"], row["replicate"]].append(row)
    counting_rows = {}
    for task, rows in by_task.items():
        top = max([least.get(task, 0), *(row["generation"] or 0 for row in rows)])
        counting_rows[task] = [row for row in rows if (row["generation"] or 0) == top]
    return counting_rows


def state_of(rows: list[dict]) -> str:
    statuses = [row["status"] for row in rows]
    if "ok" in statuses:
        return "ok"
    if "poisoned" in statuses:
        return "poisoned"
    alike = Counter((row["reason"], row["error"]) for row in rows if row["failure"] == "model")
    return "failed" if len(rows) >= 4 or max(alike.values(), default=0) > 1 else "pending"


def tasks_of(plan: Plan) -> list[tuple[int, int]]:
    return [tuple(map(int, task)) for task in np.argwhere(~plan.absent)]


def check(files: Store, plan: Plan) -> None:
    """All that reads the store says what the rows say, one by one."""
    rows = counting(files)
    tasks = tasks_of(plan)
    states = {task: state_of(rows.get(task, [])) for task in tasks}
    state = fold(files, plan)
    assert {task: STATES[state.codes[task]] for task in tasks} == states
    assert {task: state.attempts[task] for task in tasks} == {task: len(rows.get(task, [])) for task in tasks}
    ok = {
        task: [row for row in rows[task] if row["status"] == "ok"] for task in tasks if states[task] == "ok"
    }
    conflicts = sorted(task for task in ok if len({row["digest"] for row in ok[task]}) > 1)
    assert state.conflicts == conflicts
    assert sum(state.conditions.values()) == sum(map(len, ok.values()))
    results = {}
    for winner in winners(files, plan, ["outputs"], state.generations):
        for index, outputs in zip(winner.tasks.tolist(), winner.table["outputs"].to_pylist(), strict=True):
            results[divmod(index, plan.replicates)] = dict(outputs)["raw"]
    assert results.keys() == ok.keys()
    for task, result in results.items():
        assert result in [dict(row["outputs"])["raw"] for row in ok[task]], task
    summary = read_summary(files)
    if plan.request == study.last_request(files):
        assert summary.counts == state.counts()
        for failure in summary.failures:
            errors = [row["error"] for row in rows[failure.set, failure.replicate]]
            assert not failure.message or any(failure.message in error for error in errors), failure
    variation = compare_replicates(files, plan, read_generations(files, plan))
    varying = {
        number
        for number in {task[0] for task in ok}
        if len({results[task] for task in ok if task[0] == number}) > 1
    }
    if not conflicts and variation.outputs:
        constant = variation.outputs["raw"].constant_sets.keys()
        assert not constant & varying and variation.outputs["raw"].varies == bool(varying)
    assert measure(files).attempts == sum(len(rows.get(task, [])) for task in tasks_of(plan_of(files)))


# Random histories


@dataclass(eq=False)
class Run:
    """A run that began: what it goes by until its end, whatever others do."""

    plan: Plan
    state: State
    kind: str
    left: list[int] = field(default_factory=list)


@dataclass
class History:
    """A store and what happens to it."""

    files: Store
    folder: object
    rng: random.Random
    runs: list[Run] = field(default_factory=list)
    specs: list = field(default_factory=list)
    begun: list = field(default_factory=list)
    forks: list["History"] = field(default_factory=list)

    def begin(self, selection: str = "", request: str = "", *, new: bool = True) -> None:
        if not self.specs or (new and self.rng.random() < 0.3):
            n_sets, replicates = self.rng.randint(1, 5), self.rng.randint(1, 4)
            sets = [f"{{a: {self.rng.randrange(7)}}}" for _ in range(n_sets)]
            sets = sorted(set(sets)) + (["{params: {a: 1}, seed: 5}"] if self.rng.random() < 0.3 else [])
            self.specs.append(write_spec(self.folder, sets=f"[{', '.join(sets)}]", replicates=replicates))
        chosen_spec = self.rng.choice(self.specs) if new else self.specs[0]
        plan = study.begin(self.files, chosen_spec, DIGEST)
        self.begun.append(chosen_spec)
        if selection == "tasks":
            chosen = self.rng.sample(tasks_of(plan), min(2, plan.n_tasks))
            selection = ",".join(f"{number}/{replicate}" for number, replicate in chosen)
        if selection:
            begin_redo(self.files, plan, parse_selection(selection), request=request)
        state = fold(self.files, plan)
        left = [index for start, stop in state.pending_ranges() for index in range(start, stop)]
        self.rng.shuffle(left)
        self.runs.append(Run(plan, state, self.rng.choice(KINDS), left))

    def step(self) -> None:
        """A batch of a run: stored, lost, or the end of the run in the middle."""
        if not self.runs:
            return
        run = self.rng.choice(self.runs)
        batch, run.left = run.left[:3], run.left[3:]
        if not run.left or self.rng.random() < 0.1:
            self.runs.remove(run)
        generations = run.state.generations
        by_index = {
            index: generation
            for start, stop, generation in (
                generations.runs((i, i + 1) for i in batch) if generations else ()
            )
            for index in range(start, stop)
        }
        rows = [row for index in batch for row in self.rows(run, index, by_index.get(index, 0))]
        if rows and self.rng.random() < 0.9:
            parts.write(self.files, rows)

    def rows(self, run: Run, index: int, generation: int) -> list[parts.Attempt]:
        number, replicate = divmod(index, run.plan.replicates)
        more = {
            "generation": generation,
            "executor": run.kind,
            "fallback": "threads" if run.kind == "isolated_fork" and self.rng.random() < 0.5 else "",
            "reason": "ValueError",
            "error": f"ValueError: {run.kind} {generation}",
        }
        chance = self.rng.random()
        if chance < 0.65:
            output = b"%d/%d of %d" % (number, replicate, self.rng.choice((generation, 0, generation + 7)))
            ok = {**more, "reason": "", "error": "", "outputs": {"raw": output}}
            return [attempt(run.plan, number, replicate, **ok)]
        if chance < 0.75:
            return [attempt(run.plan, number, replicate, "poisoned", **more)]
        more["failure"] = self.rng.choice(("model", "transient", "start", ""))
        n_rows = 4 if chance < 0.9 else self.rng.randint(1, 3)
        return [attempt(run.plan, number, replicate, "failed", **more)] * n_rows

    def redo_at_once(self) -> None:
        """Two runs begin redos at the same moment: each has one, and no generation is given twice."""
        plan = plan_of(self.files)
        words = self.rng.sample(["all", "executor=direct", "executor=cold", "all"], 2)
        before = len(read_redos(self.files))
        with ThreadPoolExecutor(2) as pool:
            ended = list(pool.map(lambda word: begin_redo(self.files, plan, parse_selection(word)), words))
        after = read_redos(self.files)
        assert len(after) <= before + 2
        for redo in filter(None, ended):
            assert after[redo.generation - 1] == redo
        if None not in ended and words[0] != words[1]:
            assert ended[0].generation != ended[1].generation

    def fork(self) -> None:
        """A copy of the store, on which somebody else works."""
        copy = Store(f"{self.folder}/fork-{self.rng.randrange(10**9)}")
        for name, data in tree(self.files).items():
            copy.put(name, data)
        self.forks.append(History(copy, self.folder, self.rng, specs=self.specs))

    def join(self) -> None:
        """The files of a copy come back; what is there stays. Then two redos may share a generation."""
        if not self.forks:
            return
        elsewhere = self.forks.pop(self.rng.randrange(len(self.forks)))
        elsewhere.begin(self.rng.choice(["", "all", "executor=direct"]), new=False)
        for _ in range(3):
            elsewhere.step()
        names = tree(self.files).keys()
        for name, data in tree(elsewhere.files).items():
            if name.split("/")[0] in ("parts", "redo") and name not in names:
                self.files.put(name, data)
        if read_redos(self.files) and read_study(self.files).format < 3:
            self.files.put("study.json", elsewhere.files.read("study.json"))


@with_seeds(40)
def test_any_history_of_runs_and_redos_is_read_as_its_rows_say(files, tmp_path, seed):
    print(f"seed {seed}")
    history = History(files, tmp_path, random.Random(seed))
    history.begin()
    actions = {
        history.step: 8,
        history.begin: 2,
        lambda: history.begin(
            history.rng.choice(["all", "tasks", *(f"executor={kind}" for kind in KINDS)])
        ): 3,
        lambda: history.begin("all", request=history.rng.choice(["job-1", "job-2"])): 1,
        lambda: merge(files, max_files=0): 1,
        history.redo_at_once: 1,
        history.fork: 1,
        history.join: 1,
    }
    for _ in range(25 if files.folder else 8):  # elsewhere each request takes its time
        history.rng.choices(list(actions), list(actions.values()))[0]()
        if history.rng.random() < 0.3:
            check(files, plan_of(files))
    check(files, plan_of(files))
    check(files, plan_of(files, history.rng.choice(history.begun)))
    compact(files, plan_of(files))
    rows, plan = counting(files), plan_of(files)
    report = verify(files.location())
    states = defaultdict(int)
    for task in tasks_of(plan):
        states[state_of(rows.get(task, []))] += 1
    assert {state: count for state, count in report.tasks.items() if count} == dict(states)
    assert {finding.code for finding in report.findings} <= {"UNFINISHED", "CONFLICT"}, report.findings
    conflicts = {finding.location for finding in report.findings if finding.code == "CONFLICT"}
    assert conflicts == {f"{number}/{replicate}" for number, replicate in fold(files, plan).conflicts}


# Which tasks


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("executor=fork", "did you mean executor=isolated_fork?"),
        ("executor=isolated-warm", "did you mean executor=isolated_warm?"),
        ("executor=none", "there are isolated_warm, isolated_fork, cold, direct"),
        ("executor=", "there are isolated_warm"),
        ("direct", "did you mean executor=direct?"),
        ("al", "did you mean all?"),
        ("3", "Write executor=KIND, tasks as SET/REPLICATE"),
        ("3/0,", "Write executor=KIND"),
        ("3/0,4-1", "'4-1' chooses no tasks"),
        ("-1/0", "'-1/0' chooses no tasks"),
    ],
)
def test_what_chooses_no_tasks_is_refused_with_what_to_write(text, hint):
    with pytest.raises(BadSelection, match=r"^--redo ") as caught:
        parse_selection(text)
    assert hint in str(caught.value)


def test_the_order_of_tasks_and_repetitions_make_no_other_redo():
    assert parse_selection("3/1, 0/2,3/1") == parse_selection("0/2,3/1")


def test_a_task_that_the_study_does_not_have_is_refused_and_nothing_is_written(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    for text, near in (("3/0", "2/0"), ("0/4", "0/3"), ("0/0,9/9", "2/3")):
        with pytest.raises(BadSelection, match=f"did you mean {near}?"):
            begin_redo(files, plan, parse_selection(text))
    assert not read_redos(files) and read_study(files).format == 2


def chosen(files: Store, plan: Plan, text: str, **more) -> set[tuple[int, int]]:
    redo = begin_redo(files, plan, parse_selection(text), **more)
    return set(map(tuple, np.argwhere(redo.mask(plan)).tolist())) if redo else set()


def test_executor_chooses_by_the_rows_that_count(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)  # 3 sets, 4 replicates
    rows = [
        attempt(plan, 0, 0, executor="direct"),
        attempt(plan, 0, 1, executor="cold"),
        attempt(plan, 0, 2, executor="isolated_fork", fallback="threads"),
        attempt(plan, 0, 3, executor="isolated_fork"),
        attempt(plan, 1, 0, "failed", executor="direct"),  # and ok elsewhere
        attempt(plan, 1, 0, executor="cold"),
        *[attempt(plan, 1, 1, "failed", executor="direct")] * 4,
        attempt(plan, 1, 2, "poisoned", executor="direct"),
        attempt(plan, 1, 3, executor="direct", outputs={"raw": b"one"}),  # a conflict
        attempt(plan, 1, 3, executor="isolated_warm", outputs={"raw": b"two"}),
    ]
    parts.write(files, rows)
    for number, (kind, expected) in enumerate(
        {
            "direct": {(0, 0), (1, 1), (1, 2), (1, 3)},
            "cold": {(0, 1), (0, 2), (1, 0)},
            "isolated_fork": {(0, 2), (0, 3)},
            "isolated_warm": {(1, 3)},
        }.items()
    ):
        copy = Store(str(tmp_path / f"copy-{number}"))
        for name, data in tree(files).items():
            copy.put(name, data)
        assert chosen(copy, plan, f"executor={kind}") == expected, kind
        assert chosen(copy, plan, f"executor={kind}") == expected, "it goes on"
        assert len(read_redos(copy)) == 1


def test_when_nothing_matches_it_says_so_and_no_redo_begins(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    notes = []
    assert not chosen(files, plan, "all", note=notes.append)
    assert "no task of this study has a result" in notes.pop()
    parts.write(files, [attempt(plan, 0, 0, executor="cold"), attempt(plan, 0, 1, executor="cold")])
    assert not chosen(files, plan, "executor=direct", note=notes.append)
    assert "was made by direct" in notes[0] and "cold (2)" in notes.pop()
    assert not read_redos(files)


def finish_redo(files: Store, plan: Plan, tasks: set[tuple[int, int]], generation: int) -> None:
    parts.write(
        files, [attempt(plan, *task, generation=generation, executor="cold") for task in sorted(tasks)]
    )


def test_the_same_redo_goes_on_until_its_tasks_have_ended_and_then_begins_anew(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    everything = set(tasks_of(plan))
    finish_redo(files, plan, everything, 0)
    for generation in (1, 2):
        assert chosen(files, plan, "all") == everything
        finish_redo(files, plan, {(0, 0)}, generation)
        assert chosen(files, plan, "all") == everything and len(read_redos(files)) == generation
        finish_redo(files, plan, everything - {(0, 0)}, generation)


def test_a_request_begins_one_redo_however_often_its_pods_start(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    everything = set(tasks_of(plan))
    assert not chosen(files, plan, "executor=direct", request="job-1"), "nothing has run"
    parts.write(files, [attempt(plan, *task, executor="direct") for task in sorted(everything)])
    assert not chosen(files, plan, "executor=direct", request="job-1"), "results of its own are not chosen"
    assert chosen(files, plan, "all", request="job-2") == everything
    finish_redo(files, plan, {(0, 0), (0, 1)}, 2)
    assert chosen(files, plan, "all", request="job-2") == everything
    left = everything - {(0, 0), (0, 1)}
    assert chosen(files, plan, "all", request="job-3") == left, "submitted again it goes on"
    finish_redo(files, plan, left, 3)
    for job, tasks in (("job-2", everything), ("job-3", left)):
        assert chosen(files, plan, "all", request=job) == tasks, "its pod starts again after the end"
    assert len(read_redos(files)) == 3 and fold(files, plan).counts()["ok"] == len(everything)


def test_what_the_study_is_extended_by_is_not_in_a_redo(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path, replicates=2)
    tasks = set(tasks_of(plan))
    finish_redo(files, plan, tasks, 0)
    begin_redo(files, plan, parse_selection("all"))
    larger = begin(files, tmp_path, sets="[{a: 0}, {a: 1}, {a: 2}, {a: 3}]", replicates=5)
    (redo,) = read_redos(files)
    assert set(map(tuple, np.argwhere(redo.mask(larger)).tolist())) == tasks
    smaller = begin(files, tmp_path, sets="[{a: 2}]", replicates=1)
    assert np.argwhere(redo.mask(smaller)).tolist() == [[1, 0]]


@pytest.mark.parametrize("seed", range(30))
def test_rectangles_are_the_tasks_that_they_are_made_from(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 40), rng.integers(1, 20))) < rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    if rng.random() < 0.5:
        mask = mask[rng.integers(0, len(mask), 30)]  # sets that are alike
    again = np.zeros_like(mask)
    for sets, replicates in as_rectangles(mask):
        for first, last in sets:
            for start, stop in replicates:
                assert not again[first:last, start:stop].any(), "a task is in one rectangle"
                again[first:last, start:stop] = True
    assert (again == mask).all()


@pytest.mark.parametrize(("n_sets", "replicates"), [(10**6, 1), (1000, 1000), (1, 10**6)])
def test_a_redo_of_a_million_tasks_is_small_also_when_they_are_scattered(n_sets, replicates, tmp_path):
    files = Store(str(tmp_path / "store"))
    begin(files, tmp_path)
    whole = np.ones((n_sets, replicates), bool)
    scattered = np.random.default_rng(1).random((n_sets, replicates)) < 0.5
    for generation, (mask, most_bytes) in enumerate(((whole, 200), (scattered, 10 * 2**20)), 1):
        assert create_redo(files, Redo(generation, "all", as_rectangles(mask)))
        assert len(files.read(f"redo/{generation:06}.json")) < most_bytes
    (_, redo) = read_redos(files)
    assert redo.tasks == as_rectangles(scattered)


# What a store with a redo is to others


def redone(files: Store, folder) -> Plan:
    """A store of 12 tasks of which four were run again, with its tables."""
    plan = begin(files, folder)
    parts.write(files, [attempt(plan, *task, executor="direct") for task in tasks_of(plan)])
    redo = begin_redo(files, plan, parse_selection("0/0,0/1,2/2,2/3"))
    parts.write(
        files,
        [
            attempt(plan, *task, generation=1, outputs={"raw": b"again"})
            for task in map(tuple, np.argwhere(redo.mask(plan)).tolist())
        ],
    )
    compact(files, plan)
    return plan


def test_a_store_has_format_3_from_its_first_redo_on(files, tmp_path):
    plan = begin(files, tmp_path)
    parts.write(files, [attempt(plan, 0, 0)])
    before = {**json.loads(files.read("study.json")), "of a later version": [1]}
    assert before["format"] == 2, "other versions go on reading stores without a redo"
    files.put("study.json", json.dumps(before).encode())
    begin_redo(files, plan, parse_selection("all"))
    assert json.loads(files.read("study.json")) == {**before, "format": 3}
    begin(files, tmp_path)
    assert read_study(files).format == 3, "also after the next run"


def drop(name):
    return lambda files: files.remove(name)


def edit(**changes):
    def damage(files):
        redo = json.loads(files.read("redo/000001.json"))
        files.put("redo/000001.json", json.dumps({**redo, **changes}).encode())

    return damage


def write(name, data):
    return lambda files: files.put(name, data)


DAMAGE = {
    "the redo is gone, and its rows are there": drop("redo/000001.json"),
    "a gap": write("redo/000003.json", b"{}"),
    "not JSON": write("redo/000001.json", b'{"generation": 1,'),
    "no object": write("redo/000001.json", b"[]"),
    "another generation": edit(generation=2),
    "no tasks": edit(tasks=None),
    "ranges that are none": edit(tasks=[{"sets": [[0]], "replicates": [[0, 1]]}]),
    "words for numbers": edit(tasks=[{"sets": [["0", "1"]], "replicates": [[0, 1]]}]),
    "negative numbers": edit(tasks=[{"sets": [[-2, -1]], "replicates": [[0, 1]]}]),
    "a foreign file": write("redo/notes.txt", b"mine"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_redo_that_is_damaged_or_gone_is_never_passed_over(damage, tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = redone(files, tmp_path)
    assert not verify(files.location()).findings
    damage(files)
    readers = (
        lambda: fold(files, plan),
        lambda: read_summary(files),
        lambda: measure(files),
        lambda: compact(files, plan, results_store=Store(str(tmp_path / "elsewhere"))),
        lambda: compare_replicates(files, plan, read_generations(files, plan)),
        lambda: begin_redo(files, plan, parse_selection("all")),
    )
    for number, reader in enumerate(readers):
        with pytest.raises(Damaged, match="restore it from a copy"):
            print(number, reader())
    assert {finding.code for finding in verify(files.location()).findings} >= {"REDO"}


def set_format(files: Store) -> None:
    files.put("study.json", json.dumps({**json.loads(files.read("study.json")), "format": 2}).encode())


FINDINGS = {
    "a format that others would read": (set_format, {"REDO"}),
    "sets that do not exist": (edit(tasks=[{"sets": [[0, 9]], "replicates": [[0, 1]]}]), {"REDO"}),
    "more tasks than were run again": (
        edit(tasks=[{"sets": [[0, 3]], "replicates": [[0, 4]]}]),
        {"UNFINISHED", "RESULTS"},
    ),
}


@pytest.mark.parametrize(("damage", "codes"), FINDINGS.values(), ids=FINDINGS.keys())
def test_verify_says_what_is_wrong_with_a_redo(damage, codes, tmp_path):
    files = Store(str(tmp_path / "store"))
    redone(files, tmp_path)
    damage(files)
    assert {finding.code for finding in verify(files.location()).findings} >= codes


def test_a_redo_makes_the_tables_old(files, tmp_path):
    plan = redone(files, tmp_path)
    parts.write(files, [attempt(plan, 1, 0, generation=0, executor="direct")])
    begin_redo(files, plan, parse_selection("1/0"))
    with opened(files) as tables:
        table = tables.output("raw").table()
        assert tables.tasks["pending"] == tables.redo_pending == 1
    tasks = list(zip(table["set"].to_pylist(), table["replicate"].to_pylist(), strict=True))
    assert (1, 0) not in tasks and len(tasks) == 11
    assert table["bytes"].to_pylist().count(b"again") == 4
    first, second = read_summary(files).redos
    assert (first.n_tasks, first.n_pending, second.n_tasks, second.n_pending) == (4, 0, 1, 1)


def test_a_redone_task_that_fails_is_failed_and_tells_its_own_error(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    parts.write(
        files, [*[attempt(plan, 0, 0, "failed", reason="Old", error="Old: 1")] * 4, attempt(plan, 0, 1)]
    )
    begin_redo(files, plan, parse_selection("0/0,0/1"))
    assert fold(files, plan).codes[0, 0] == fold(files, plan).codes[0, 1] == PENDING
    for task in ((0, 0), (0, 1)):
        parts.write(files, [attempt(plan, *task, "failed", reason="New", error="New: 2", generation=1)] * 3)
    assert fold(files, plan).attempts[0, :2].tolist() == [3, 3] and fold(files, plan).codes[0, 1] == PENDING
    for task in ((0, 0), (0, 1)):
        parts.write(files, [attempt(plan, *task, "failed", reason="New", error="New: 2", generation=1)])
    summary = read_summary(files)
    assert summary.counts["failed"] == 2 and summary.counts["ok"] == 0
    assert [(failure.count, failure.why) for failure in summary.failures] == [(2, "New: 2")]


def test_a_limit_of_a_replaced_result_is_not_the_limit_of_the_task(tmp_path):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    died = {"status": "poisoned", "reason": parts.OUT_OF_MEMORY}
    parts.write(files, [attempt(plan, 0, 0, limit_bytes=900, **died)])
    begin_redo(files, plan, parse_selection("0/0"))
    parts.write(files, [attempt(plan, 0, 0, limit_bytes=700, generation=1, **died)])
    generations = read_generations(files, plan)
    limit_bytes = parts.largest_oom_limit(files, 0, 0, lambda rows: counts(rows, plan, generations))
    assert limit_bytes == 700 and parts.largest_oom_limit(files, 0, 0) == 900


def test_tasks_that_ran_again_with_fewer_outputs_are_not_said_to_wait_for_the_redo(tmp_path):
    """They are pending in the study of all outputs; what they lack are outputs, not a new run."""
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    whole = {"a": b"1", "const": b"2"}
    parts.write(files, [attempt(plan, 0, replicate, outputs=whole) for replicate in (0, 1)])
    begin_redo(files, plan, parse_selection("0/0,0/1"))
    parts.write(files, [leave_out(attempt(plan, 0, 0, outputs=whole, generation=1), ["const"])])
    (redo,) = read_summary(files).redos
    assert (redo.n_tasks, redo.n_pending, redo.n_lacking) == (2, 1, 1)
    parts.write(files, [leave_out(attempt(plan, 0, 1, outputs=whole, generation=1), ["const"])])
    (redo,) = read_summary(files).redos
    assert (redo.n_tasks, redo.n_pending, redo.n_lacking) == (2, 0, 2)
    assert "2 tasks ran again, 2 of them without all outputs" in render_redo(redo)
    with pytest.raises(NoOutput, match=r"has no output a; \d+ pending tasks may return it"):
        output(files, "a")


def test_without_a_redo_the_column_of_generations_is_not_read(tmp_path, monkeypatch):
    files = Store(str(tmp_path / "store"))
    plan = begin(files, tmp_path)
    parts.write(files, [attempt(plan, 0, 0)])
    columns_read, read_columns = [], parts.read_columns

    def watch(file, columns, row_group=None):
        columns_read.extend(columns)
        return read_columns(file, columns, row_group)

    monkeypatch.setattr(parts, "read_columns", watch)
    assert fold(files, plan).codes[0, 0] == OK and fold(files, plan).generations is None
    assert columns_read and "generation" not in columns_read


def test_a_run_during_which_a_redo_begins_ends_as_one_that_is_not_done(tmp_path):
    """What it stores does not count for the tasks of the redo; the next run makes them anew."""
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    loaded = spec.load(study_helpers.write_spec(tmp_path, n=8))
    bundle, files = fetch(str(study_helpers.KNOBS), tmp_path / "cache"), Store(str(tmp_path / "store"))

    def begin_other(_: object) -> None:
        if not read_redos(files):
            begin_redo(files, plan_of(files), parse_selection("all"))

    def drive_once(watcher: Watcher) -> Summary:
        shape = Shape(1, 1, 1, 2**30)
        return drive(loaded, bundle, files, lambda: local_cluster(shape, settings), watcher=watcher)

    summary = drive_once(Watcher(progress=begin_other))
    assert summary.interrupted and summary.exit_code == 130
    assert summary.counts["pending"] == 8 and summary.redos[0].n_pending == 8
    summary = drive_once(Watcher())
    assert summary.counts["ok"] == 8 and summary.exit_code == 0
    assert [row["generation"] for row in sorted(rows_of(files), key=lambda row: row["generation"])] == [
        *[0] * 8,
        *[1] * 8,
    ]
    assert not verify(files.location()).findings


def test_of_copies_that_were_worked_on_apart_the_newest_rows_of_each_task_count(tmp_path):
    """Both began a redo of generation 1. When their parts come together, one file of redo/ stays."""
    files, copy = Store(str(tmp_path / "store")), Store(str(tmp_path / "copy"))
    plan = begin(files, tmp_path)
    finish_redo(files, plan, set(tasks_of(plan)), 0)
    for name, data in tree(files).items():
        copy.put(name, data)
    for each, task, word in ((files, "0/0", b"here"), (copy, "0/1", b"there")):
        (redo_task,) = chosen(each, plan, task)
        parts.write(each, [attempt(plan, *redo_task, generation=1, outputs={"raw": word})])
    for name, data in tree(copy).items():
        if name.startswith("parts/"):
            files.put(name, data)
    check(files, plan)
    compact(files, plan)
    with opened(files) as tables:
        assert tables.output("raw").table()["bytes"].to_pylist()[:3] == [b"here", b"there", b"0/2"]
    assert not fold(files, plan).conflicts and not verify(files.location()).findings
