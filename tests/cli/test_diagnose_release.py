"""`preset diagnose --release`: the program in the pod, as it is asked and answers; what is refused before.

The pod itself is tests/e2e/test_diagnose_live.py's.
"""

import json
import os
import subprocess
import sys
from base64 import b64encode
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner

from diagnose_helpers import Case
from executor_helpers import write_bundle
from modelops_dask.bundle import fetch
from modelops_dask.bundle.pack import pack
from modelops_dask.diagnose import result
from modelops_dask.diagnose.result import (
    ArmReport,
    Diagnosis,
    Evidence,
    Example,
    Leak,
    Observation,
    Pollution,
    SourceRef,
    TaskRef,
)
from mops_helm.main import main

STUDY = ["--study", str(Case("healthy").folder / "study.yaml")]


def request(bundle, folder, **changed) -> str:
    """What the program reads, for the model of a folder."""
    held = fetch(str(bundle), folder / "here")
    content = {"name": "any", "entrypoint": "models.measles/any", "grid": {"close_schools": [False, True]}}
    content |= {"replicates": 2, "fixed": {"pupils": 300}}
    shape = {"replicas": 1, "processes": 1, "threads": 1, "pod_memory_bytes": 1 << 30, "resources": {}}
    options = {"tasks": 4, "repeats": 2, "arms": ["single-process"], "budget_seconds": 120, "seed": 0}
    asked = {"spec": content, "path": "mine/study.yaml", "shape": shape, "options": options}
    asked |= {"bundle": b64encode(pack(held)).decode(), "digest": held.digest}
    return json.dumps(asked | changed)


def program(asked: str, folder) -> subprocess.CompletedProcess:
    variables = {
        **os.environ,
        "MODELOPS_BUNDLES_CACHE_DIR": str(folder / "there"),
        "MODELOPS_EXECUTOR_ENVIRONMENT": "image",
        "MODELOPS_EXECUTOR_TYPE": "isolated_fork",
    }
    command = [sys.executable, "-m", "modelops_dask.diagnose"]
    return subprocess.run(
        command, input=asked, capture_output=True, text=True, env=variables, timeout=300, check=False
    )


def test_a_request_is_answered_by_a_diagnosis_on_stdout_alone(tmp_path):
    done = program(request(Case("global-state").folder, tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    found = result.read(answer["found"])
    assert (found.verdict, found.values["executor"]["environment"]) == ("process-reuse", "image")
    assert {one.task for one in found.observations} == {"0/0", "0/1", "1/0", "1/1"}
    assert repr(answer["folder"]) in found.polluter.script
    assert str(tmp_path / "there") in answer["folder"]
    assert "single-process: one process" in done.stderr


def test_an_error_is_an_answer_too(tmp_path):
    empty = write_bundle(tmp_path / "empty", {"readme.txt": "no model"})
    done = program(request(empty, tmp_path), tmp_path)
    assert done.returncode == 2, done.stderr
    assert "wire" in json.loads(done.stdout)["error"]


def test_a_diagnosis_survives_json():
    task = TaskRef("0/0", {"x": [1, {"y": None}]}, 2**63)
    found = Diagnosis(
        "process-reuse",
        "because",
        0.999,
        "isolated-fork",
        {"executor": {"type": "isolated_fork"}},
        Evidence(("a", "b"), 1, 2, "1 of 2", Example("0/0", "y", "1", "2", "different", row=3), ("line",)),
        {"cold": False, "reuse": True, "fork": None},
        Pollution((task, task), task, ("changed",), "script"),
        (SourceRef("clock", "time.time", "model.py", 12, True),),
        Leak(1.5, 1.0, 2.0, 40),
        ("concurrency",),
        (ArmReport("cold", "same", "why", 1, 2, 3, 4.5, 6),),
        observations=(Observation("cold", 1, 0, 0, "0/0", 5, "ok", "", "", 0.1, 10, {"y": "ab"}),),
    )
    assert result.read(json.loads(json.dumps(asdict(found)))) == found
    assert result.read(json.loads(json.dumps(found.as_json()))) == replace(found, observations=())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--release", "sims"], 2, "--release needs an experiment: add SPEC"),
        ([*STUDY, "--release", "sims", "--preset", "cold"], 2, "leave out --preset, -f and --set"),
        ([*STUDY, "--release", "sims", "--set", "workers.threads=2"], 2, "its own values"),
        ([*STUDY, "-n", "epi"], 2, "add --release RELEASE"),
        ([*STUDY, "--release", "sims"], 5, "no kubeconfig exists"),
    ],
)
def test_what_cannot_be_is_said_before_there_is_a_pod(arguments, status, said, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    done = CliRunner().invoke(main, ["preset", "diagnose", *arguments])
    assert (done.exit_code, said in done.stderr) == (status, True), done.output
