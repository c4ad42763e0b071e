"""What a Job says of its study: the state, how far it is, how a command that watches it ends."""

import json
import time

import pytest

from modelops_dask.kube import submitted

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
    study = submitted.of(found)
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
    study = submitted.of(found)
    assert (study.state, study.ended) == (state, False)


def test_the_progress_of_chunks_adds_up():
    study = submitted.of(
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
    seen = submitted.of(job(chunks=4, progress_2=said(done=1, total=3, rate=1.0))).progress
    assert (seen.done, seen.total) == (1, 12)


def test_annotations_that_are_damaged_or_another_programs_do_not_matter():
    study = submitted.of(job(progress="{", summary="[1]", progress_bar=said(), progress_x1=said()))
    assert (study.state, study.progress, study.summary) == ("pending", None, {})


def test_a_driver_that_says_nothing_for_a_minute_is_silent():
    assert submitted.of(job(progress=said(seen=time.time() - 100))).silent
    assert not submitted.of(job(progress=said(seen=time.time()))).silent
    assert not submitted.of(job("Complete", progress=said(seen=1.0))).silent


def test_a_study_that_is_not_there():
    names = [submitted.of(job(name=name)) for name in ("study-aaaaaaaaaaaa", "study-bbbbbbbbbbbb")]
    assert "did you mean sir?" in str(submitted.NoSuchStudy("sri", "epi", names))
    both = str(submitted.NoSuchStudy("sir", "epi", names))
    assert "2 Jobs" in both and "study-aaaaaaaaaaaa  pending  /shared/sir" in both
    assert "a store stays" in str(submitted.NoSuchStudy("sir", "epi", []))
