"""What is printed of studies in the cluster."""

import re
import time
from dataclasses import replace

import pytest

from modelops_dask.kube.connect import Cluster, NoCluster, NoNamespace
from modelops_dask.kube.jobs import NoStudies
from modelops_dask.kube.pods import PodProblem, in_cluster
from modelops_dask.kube.study_jobs import NoSuchStudy, ReportedProgress, StudyJob
from mops_helm.helm import ReleaseRef
from mops_helm.release.release import NoRelease, ReleaseExists
from mops_helm.render import submitted_studies
from mops_helm.study.pod_reader import ReaderKilled
from mops_helm.study.submission import Submission, TooManyStudies

NOW = 1_800_000_000.0
STUDY = StudyJob(
    job="study-0123456789ab",
    study="sir",
    release="epi",
    state="running",
    ended=False,
    store="/shared/sir-8949bf37",
    bundle="sha256:00",
    command="mops-helm study submit 'my sir.yaml' -n lab --release epi --bundle ../sir",
    chunks=0,
    created=NOW - 100,
    finished=0.0,
    message="",
    verdict=None,
    progress=ReportedProgress("running", 3500, 12000, failed=2, rate=164.0, eta_seconds=52.0, seen=NOW - 2),
    summary={},
)
PARTIAL = replace(
    STUDY,
    state="partial",
    ended=True,
    finished=NOW,
    verdict=3,
    summary={
        "total": 12,
        "ok": 11,
        "failed": 1,
        "pending": 0,
        "verdict": "Of 12 tasks: 1 failed.",
        "by_reason": [{"reason": "ValueError", "state": "failed", "count": 1, "task": "3/0"}],
    },
)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)


def test_a_study_that_runs():
    assert submitted_studies.render_study_status(STUDY, (), "-n lab", "table").splitlines() == [
        "Study sir: running, for 1 min 40 s",
        "  job      study-0123456789ab of release epi, one driver",
        "  store    /shared/sir-8949bf37",
        "  now      running, 3,500 of 12,000 tasks done, 2 failed, 164 a second, 52 s to go",
        "Next:",
        "  mops-helm study status study-0123456789ab -n lab --watch",
        "  mops-helm study cancel study-0123456789ab -n lab",
    ]


def test_what_is_in_the_way_and_a_driver_that_is_silent():
    quiet = replace(STUDY, progress=replace(STUDY.progress, seen=NOW - 90))
    why = [PodProblem("Unschedulable", "no node has cpu left", "Add nodes:", "kubectl describe nodes")]
    text = submitted_studies.render_study_status(quiet, why, "-n lab", "table")
    assert "  silent   for 1 min 30 s: its pod may still be starting" in text
    assert "Problem: Unschedulable: no node has cpu left\nAdd nodes:\n  kubectl describe nodes\n" in text


def test_a_study_with_failures_says_how_to_see_one_and_how_to_go_on():
    lines = submitted_studies.render_study_status(PARTIAL, (), "-n lab", "table").splitlines()
    assert "  failed                1" in lines and "Of 12 tasks: 1 failed." in lines
    assert "          1  failed    ValueError" in lines
    assert "             mops-helm study try 'my sir.yaml' --bundle ../sir --task 3/0" in lines
    assert lines[-2:] == [
        "  mops-helm study results study-0123456789ab -n lab",
        f"  {STUDY.command} --retry failed,poisoned",
    ]


def test_a_task_is_tried_by_its_number_in_the_study_file_where_the_store_has_other_sets_too():
    failure = PARTIAL.summary["by_reason"][0] | {"task_of_spec": "1/0"}
    study = replace(PARTIAL, summary=PARTIAL.summary | {"by_reason": [failure]})
    assert "--bundle ../sir --task 1/0" in submitted_studies.render_study_status(study, (), "-n lab", "table")


def test_a_list_has_the_newest_first_and_says_when_it_is_empty():
    lines = submitted_studies.render_study_list(
        [PARTIAL, replace(STUDY, created=NOW - 5)], "lab", "table"
    ).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["STUDY", "STATE", "TASKS"],
        ["sir", "running", "3,500/12,000"],
        ["sir", "partial", "12/12"],
    ]
    assert "No studies in namespace lab" in submitted_studies.render_study_list([], "lab", "table")


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ("submitted", "Submitted as study-1; results go to /shared/sir"),
        ("continued", "Submitted again as study-1; it continues in /shared/sir"),
        ("running", "study-1 is already running: the same study, model and release. Nothing was changed."),
    ],
)
def test_what_became_of_a_submission(outcome, text):
    assert submitted_studies.render_submission(Submission("study-1", "/shared/sir", outcome)) == text


DIFFERENT = {"task": "3/1", "executor": "isolated_warm", "outputs": ["y"], "cause": "order"}


def next_steps(**check):
    summary = PARTIAL.summary | {"failed": 0, "ok": 12, "by_reason": [], "self_check": check}
    text = submitted_studies.render_study_status(replace(PARTIAL, summary=summary), (), "-n lab", "table")
    return text.partition("Next:\n")[2]


def test_a_self_check_that_differs_leads_to_the_cause_and_back():
    steps = next_steps(different=[DIFFERENT])
    assert "--retry" not in steps
    assert "mops-helm diagnose 'my sir.yaml' --bundle ../sir" in steps
    assert "mops-helm upgrade epi -n lab --preset isolated-fork" in steps
    assert f"{STUDY.command} --redo executor=isolated_warm" in steps


@pytest.mark.parametrize(
    "change", [{"cause": "seed"}, {"equal_replicates": True}, {"executor": "cold"}, {"executor": "x; rm"}]
)
def test_where_no_isolation_helps_none_is_recommended(change):
    assert "--redo" not in next_steps(different=[DIFFERENT | change])


DRIVER_POD = {"spec": {"containers": [{"name": "driver"}]}}


def cluster_errors() -> list[str]:
    cluster = Cluster(None, "epi", "far away")
    place = ReleaseRef("sims", "epi", "far away")
    problem = PodProblem("Unschedulable", "no node", "Add nodes:", "kubectl describe nodes")
    return list(
        map(
            str,
            [
                NoCluster("refused", "far away"),
                NoNamespace("epi", "far away"),
                NoStudies("sims", "epi", [], exists=False, context="far away"),
                NoSuchStudy("x", "epi", [STUDY], "far away"),
                NoRelease(place),
                ReleaseExists(place),
                ReaderKilled(
                    replace(STUDY, template={"spec": {"containers": [{"name": "driver"}]}}), cluster.flags
                ),
                TooManyStudies("sims", 1, [STUDY], cluster.flags),
                in_cluster(problem, cluster),
            ],
        )
    )


def test_commands_for_a_cluster_name_the_context_that_was_chosen():
    for message in cluster_errors():
        commands = re.findall(r"(?:mops-helm|kubectl) [a-z-].*", message.replace(STUDY.command, ""))
        assert commands and all("context 'far away'" in command for command in commands), message


def test_without_a_chosen_context_commands_name_none():
    assert Cluster(None, "epi").add_context("kubectl describe nodes") == "kubectl describe nodes"
    assert "kubectl create namespace epi " in str(NoNamespace("epi"))
    assert Cluster(None, "epi", "far").add_context("kind load docker-image x") == "kind load docker-image x"
