"""What a Job says of its study: the state, how far it is, how a command that watches it ends."""

import copy
import json
import random
import time
from dataclasses import replace
from io import StringIO
from queue import SimpleQueue
from types import SimpleNamespace

import pytest

from modelops_dask.kube import reporter, study_jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.own_pod import OwnPod
from modelops_dask.store.checks import Comparison, SelfCheck
from modelops_dask.store.files import StoreFailed
from modelops_dask.store.fold import Failure
from modelops_dask.study.breaker import TablesNeedMemory
from modelops_dask.study.progress import Progress
from modelops_dask.study.summary import Summary
from mops_helm.render import submitted_studies
from mops_helm.study import progress
from mops_helm.study.follower import Follower

AT = "2026-11-21T10:00:00Z"
COUNTS = {"total": 12, "ok": 12, "failed": 0, "poisoned": 0, "pending": 0}


def job(*conditions, chunks=0, status=None, name="study-0123456789ab", **annotations):
    """A Job as the API server returns one; annotations by the end of their names, `_` for `-`."""
    spec = {"template": {"spec": {}}}
    if chunks:
        spec |= {"completionMode": "Indexed", "completions": chunks}
    said = {
        f"modelops.io/{key.replace('_', '-')}": value if isinstance(value, str) else json.dumps(value)
        for key, value in {"study": "sir", "store": "/shared/sir", **annotations}.items()
    }
    found = [
        {"type": type_, "status": "True", "reason": reason, "message": "why", "lastTransitionTime": AT}
        for type_, _, reason in (one.partition(" ") for one in conditions)
    ]
    return {
        "metadata": {
            "name": name,
            "uid": "u",
            "creationTimestamp": AT,
            "labels": {"modelops.io/release": "study"},
            "annotations": said,
        },
        "spec": spec,
        "status": {"conditions": found, **(status or {})},
    }


def said(phase="running", done=5, total=12, seen=100.0, **more):
    return {"phase": phase, "done": done, "total": total, "seen": seen, **more}


@pytest.mark.parametrize(
    ("found", "state", "exit_code"),
    [
        (job("SuccessCriteriaMet", "Complete", summary={"exit_code": 0}), "succeeded", 0),
        (job("FailureTarget", "Failed PodFailurePolicy", summary={"exit_code": 3}), "partial", 3),
        (job("Failed PodFailurePolicy", summary={"exit_code": 4}), "failed", 4),
        (job("Failed PodFailurePolicy", summary={"exit_code": 2}), "failed", 2),
        (job("Failed BackoffLimitExceeded"), "failed", 1),
        (job("Failed DeadlineExceeded"), "failed", 130),
        (job("Failed DeadlineExceeded", summary={"exit_code": 130}), "failed", 130),
        (job("Failed DeadlineExceeded", cancelled=AT), "cancelled", 130),
        (job("Complete", cancelled=AT), "succeeded", 0),
        (
            job("Failed FailedIndexes", chunks=2, summary_0={"exit_code": 0}, summary_1={"exit_code": 3}),
            "partial",
            3,
        ),
        (job("Failed FailedIndexes", chunks=2, summary_0={"exit_code": 3}), "failed", 1),
        (
            job("Failed FailedIndexes", chunks=2, summary_0={"exit_code": 3}, summary_1={"exit_code": 4}),
            "failed",
            4,
        ),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_how_a_study_ended(found, state, exit_code):
    study = study_jobs.parse_job(found)
    assert (study.state, study.exit_code, study.ended) == (state, exit_code, True)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (job(), "pending"),
        (job(status={"active": 1, "ready": 0}), "pending"),
        (job(status={"active": 1, "ready": 1}), "running"),
        (job(progress=said()), "running"),  # its pod is being replaced
        (job(cancelled=AT, status={"active": 1, "ready": 1}), "cancelled"),
        (job("FailureTarget PodFailurePolicy", progress=said()), "running"),  # a pod still ends
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value),
)
def test_a_study_that_has_not_ended(found, state):
    study = study_jobs.parse_job(found)
    assert (study.state, study.ended) == (state, False)


def test_the_progress_of_chunks_adds_up():
    study = study_jobs.parse_job(
        job(
            chunks=3,
            progress_0=said(done=4, total=4, rate=2.0, seen=90.0, failed=1),
            progress_1=said(done=1, total=4, rate=1.0, eta_seconds=3.0, seen=100.0, note="two workers lost"),
            progress_2=said(phase="environment", done=0, total=4, rate=0.0, seen=95.0),
        )
    )
    seen = study.progress
    assert (seen.done, seen.total, seen.failed) == (5, 12, 1)
    assert (seen.rate, seen.eta_seconds, seen.seen) == (1.0, 3.0, 100.0), "a chunk that is done has no rate"
    assert (seen.note, seen.phase) == ("two workers lost", "running")


def test_chunks_that_have_not_begun_count_in_the_total():
    seen = study_jobs.parse_job(job(chunks=4, progress_2=said(done=1, total=3, rate=1.0))).progress
    assert (seen.done, seen.total) == (1, 12)


def test_annotations_that_are_damaged_or_another_programs_do_not_matter():
    study = study_jobs.parse_job(job(progress="{", summary="[1]", progress_bar=said(), progress_x1=said()))
    assert (study.state, study.progress, study.summary) == ("pending", None, {})


def test_a_driver_that_says_nothing_for_a_minute_is_silent():
    assert study_jobs.parse_job(job(progress=said(seen=time.time() - 100))).silent
    assert not study_jobs.parse_job(job(progress=said(seen=time.time()))).silent
    assert not study_jobs.parse_job(job("Complete", progress=said(seen=1.0))).silent


def test_a_study_that_is_not_there():
    names = [study_jobs.parse_job(job(name=name)) for name in ("study-aaaaaaaaaaaa", "study-bbbbbbbbbbbb")]
    assert "did you mean sir?" in str(study_jobs.NoSuchStudy("sri", "epi", names))
    both = str(study_jobs.NoSuchStudy("sir", "epi", names))
    assert "2 Jobs" in both and "study-aaaaaaaaaaaa  pending  /shared/sir" in both
    assert "stores remain" in str(study_jobs.NoSuchStudy("sir", "epi", []))


# What a driver of today says; each damaged annotation below is one of these, changed.
SUMMARY = {
    **COUNTS,
    "exit_code": 3,
    "verdict": "Of 12 tasks: 1 failed",
    "by_reason": [{"reason": "E", "state": "failed", "count": 1, "task": "3/0"}],
    "run": {"tasks": 3, "seconds": 1.5},
    "results": ["/shared/sir/results/raw/y.parquet"],
}
PROGRESS = said(
    ok=4, failed=1, poisoned=0, workers=2, rate=1.5, eta_seconds=4.0, note="a word", pod="study-1"
)
WHOLE = {
    "summary": SUMMARY,
    "progress": PROGRESS,
    "command": "mops-helm study submit 'my sir.yaml' --bundle x",
}
ODD = [
    *(None, True, False, 0, -1, 3, 10**18, 10**400, 0.5, 5e-324, 1e308, float("nan"), float("inf"), -1e-9),
    *(
        "",
        "x",
        "3",
        "\x1b[2J\x1b]0;x\x07",
        "\ud800",
        "\u202e",
        "é" * 300,
        "a\nb",
        [],
        {},
        [1],
        {"a": 1},
        [[{}]],
    ),
]


def odd(numbers: random.Random, depth: int = 3):
    """Any value that JSON can hold, and a few that only Python reads."""
    kind = numbers.randrange(8) if depth else 0
    if kind == 6:
        return [odd(numbers, depth - 1) for _ in range(numbers.randrange(4))]
    if kind == 7:
        names = [*PROGRESS, *SUMMARY, "reason", "task", "\x1b"]
        return {numbers.choice(names): odd(numbers, depth - 1) for _ in range(numbers.randrange(4))}
    return numbers.choice(ODD)


def damaged(numbers: random.Random, value):
    """The same JSON with something else in one place, or without it."""
    if isinstance(value, dict | list) and value and numbers.random() < 0.8:
        changed = copy.copy(value)
        place = numbers.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if numbers.random() < 0.3:
            del changed[place]
        else:
            changed[place] = damaged(numbers, value[place])
        return changed
    return odd(numbers)


def annotation(numbers: random.Random, value) -> str:
    """Text of an annotation: JSON mostly, else torn or very deep."""
    text = json.dumps(damaged(numbers, value))
    kind = numbers.randrange(12)
    if kind == 0:
        return text[: numbers.randrange(len(text) + 1)]
    if kind == 1:
        return numbers.choice(["[", '{"a":', '{"verdict":[']) * 100_000
    return text


@pytest.mark.parametrize("seed", range(4))
def test_whatever_annotations_hold_a_job_is_shown_and_its_neighbours_too(seed):
    print("seed", seed)
    numbers = random.Random(seed)
    sane = study_jobs.parse_job(job("Complete", summary=COUNTS | {"exit_code": 0}))
    for _ in range(250):
        chunks = numbers.choice([0, 2])
        names = ["summary", "progress", *(["summary_1", "progress_0"] if chunks else [])]
        written = {name: annotation(numbers, WHOLE[name.partition("_")[0]]) for name in names}
        if numbers.random() < 0.5:
            written["command"] = numbers.choice([WHOLE["command"], "a 'b", "--bundle", "\x1b[2J", ""])
        found = job(*numbers.choice([(), ("Complete",), ("Failed BackoffLimit",)]), chunks=chunks, **written)
        study = study_jobs.parse_job(found)
        assert not study.summary or study.summary.keys() >= COUNTS.keys()
        shown = [
            submitted_studies.render_study_list([study, sane], "lab", form)
            for form in ("table", "json", "yaml")
        ]
        shown += [
            submitted_studies.render_study_status(study, (), "-n lab", form)
            for form in ("table", "json", "yaml")
        ]
        stream = StringIO()
        Follower(None, progress.ProgressLines(stream))._report(replace(study, ended=True))
        for text in (*shown, stream.getvalue()):
            text.encode()
            assert "\x1b" not in text
        assert "12/12" in shown[0] and study.exit_code in range(256)


def test_a_job_that_cannot_be_read_at_all_costs_its_row_alone(monkeypatch):
    broken = job("Complete", name="study-broken")
    del broken["spec"]["template"]
    monkeypatch.setattr(study_jobs.jobs, "list_jobs", lambda *_: [broken, job("Complete", summary=COUNTS)])
    first, second = study_jobs.list_study_jobs(None)
    assert (first.job, "template" in first.message, second.summary["ok"]) == ("study-broken", True, 12)
    lines = submitted_studies.render_study_list([first, second], "lab", "table").splitlines()
    assert len(lines) == 3 and "cannot be read" in submitted_studies.render_study_status(
        first, (), "", "table"
    )


@pytest.fixture
def written(monkeypatch):
    """Annotations that a Reporter writes, by the ends of their names."""
    told: dict[str, str] = {}

    def patch(_, __, body, **___):
        news = body["metadata"]["annotations"].items()
        told.update({name.removeprefix("modelops.io/"): text for name, text in news if text})

    cluster = Cluster(None, "lab")
    cluster.__dict__["batch"] = SimpleNamespace(patch_namespaced_job=patch)
    monkeypatch.setattr(reporter.Reporter, "_cluster", cluster)
    monkeypatch.setattr(reporter.Reporter, "_own", OwnPod("study-1-abcde", "study-1", "sims", ""))
    monkeypatch.setattr(reporter, "PodWatch", lambda *_: None)
    return told


def test_failures_name_a_task_by_the_store_and_by_the_study_file(written):
    failures = [Failure("E", "failed", 2, 3, 1), Failure("F", "failed", 1, 9, 0)]
    counts = {"ok": 9, "failed": 3, "poisoned": 0, "pending": 0}
    with reporter.Reporter(None, SimpleQueue()) as mine:
        mine.own_sets = {3: 0}
        mine.report_end(Summary("/shared/sir", "m/b", 12, counts, failures))
    first, second = study_jobs.parse_job(job("Failed P", **written)).summary["by_reason"]
    assert (first["task"], first["task_of_spec"], second["task"]) == ("3/1", "0/1", "9/0")
    assert "task_of_spec" not in second


def test_a_driver_that_ends_before_it_counts_leaves_the_counts_of_the_driver_before_it(written):
    """As one does that finds that the driver before it was killed while it wrote the tables."""
    with reporter.Reporter(None, SimpleQueue()) as killed:
        killed.progress(Progress(12, 10, 1, 1, 12, 3.0, 2, 0))
    with reporter.Reporter(None, SimpleQueue()) as mine:
        mine.report_error(TablesNeedMemory("compacting", 1 << 30))
    study = study_jobs.parse_job(job("Failed PodFailurePolicy", **written))
    assert [study.summary[name] for name in study_jobs.COUNTS] == [12, 10, 1, 1, 0]
    shown = submitted_studies.render_study_status(study, (), "-n lab", "table")
    assert "ok                   10" in shown
    assert "study results" not in shown, "a pod that reads would be killed as well"


@pytest.mark.parametrize("before", [None, Progress(12, 4, 1, 1, 6, 3.0, 2, 0)], ids=["at once", "later"])
def test_a_driver_that_ends_by_an_error_leaves_a_summary_with_all_counts(before, written):
    """Of nothing else can the list read how far the study came."""
    with reporter.Reporter(None, SimpleQueue()) as mine:
        if before:
            mine.progress(before)
        mine.report_error(StoreFailed("/shared/sir", "Permission denied"))
    study = study_jobs.parse_job(job("Failed PodFailurePolicy", **written))
    counts = {name: study.summary[name] for name in study_jobs.COUNTS}
    assert counts == dict(zip(study_jobs.COUNTS, (12, 4, 1, 1, 6) if before else (0,) * 5, strict=True))
    assert json.loads(written["summary"])["pending"] == (6 if before else 0), "written, not only read"
    row = submitted_studies.render_study_list([study], "lab", "table").splitlines()[1]
    assert ("6/12" in row) == bool(before)
    assert "Permission denied" in submitted_studies.render_study_status(study, (), "-n lab", "table")


def test_the_line_of_a_job_names_the_self_check():
    summary = Summary("/shared/sir", "m/b", 12, COUNTS)
    assert reporter.describe_end(summary) == "All 12 tasks are ok"
    equal = replace(summary, self_check=SelfCheck(n_equal=3))
    assert reporter.describe_end(equal) == "All 12 tasks are ok; self-check: 3 tasks compared, equal"
    different = Comparison(3, 1, "00", "isolated_warm", "different", outputs=("y",), cause="order")
    found = replace(summary, self_check=SelfCheck(n_equal=2, different=(different,)))
    assert found.exit_code == 3
    assert "self-check: 1 of 3 compared tasks differ" in reporter.describe_end(found)


@pytest.mark.parametrize(
    "value", [3, [], {"different": 3}, {"different": [3, {"task": 1, "cause": None}]}, {"compared": -1}, None]
)
def test_a_self_check_that_anybody_wrote_can_be_shown(value):
    summary = {**COUNTS, "exit_code": 3, "self_check": value}
    study = study_jobs.parse_job(job("Failed BackoffLimitExceeded", summary=summary))
    assert study.state == "partial"
    assert submitted_studies.render_study_status(study, (), "-n lab", "table")
