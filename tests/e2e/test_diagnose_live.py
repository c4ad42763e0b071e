"""`preset diagnose --release`: the experiment where the workers of a release run, and nothing left of it."""

import json
import signal
import subprocess
import sys

import pytest

from diagnose_helpers import Case
from e2e.cluster import CI_VALUES, install
from study_helpers import finish, start, wait_for_line

LONG_SECONDS = 300
MODELS = ("global-state", "healthy", "shared-file")
FEW = ["--tasks", "4", "--repeats", "2", "--arms", "single-process,baseline"]


@pytest.fixture(scope="module")
def release(namespace):
    """Its pods need not be there: a diagnosis does not use them."""
    sets = ["workers.replicas=0,workers.processes=2,executor.environment=image"]
    sets += ["studies.driver.resources.requests.memory=512Mi"]
    with install("odd", namespace, CI_VALUES, sets=sets, wait=False) as installed:
        yield installed


def diagnosing(release, name, folder, *words):
    """The command, under way in a folder of its own."""
    (cwd := folder / name).mkdir()
    study = Case(name).folder / "study.yaml"
    where = ["--release", release.name, "-n", release.namespace]
    return start("preset", "diagnose", "--study", study, *where, *FEW, *words, cwd=cwd)


def pods(release):
    """Those of diagnoses."""
    found = release.kubectl("get", "pods", "-l", "modelops.io/visit", "-o", "json")
    return json.loads(found)["items"]


@pytest.fixture
def three(release, tmp_path):
    """A sick model, a healthy one, and one whose diagnosis is to be interrupted, side by side."""
    return [diagnosing(release, name, tmp_path, "--store", "kept") for name in MODELS]


def test_verdicts_come_from_the_cluster_and_nothing_stays_there(release, three, tmp_path):
    first, second, third = three
    wait_for_line(third, "building", LONG_SECONDS)
    for pod in pods(release):
        (container,) = pod["spec"]["containers"]
        worker = 2 * 640 + 96  # MiB, by CI_VALUES
        assert container["resources"]["limits"]["memory"] == f"{worker + 512}Mi"
        assert container["resources"]["requests"]["cpu"] == "100m"
    third.send_signal(signal.SIGINT)
    interrupted = finish(third)
    assert (interrupted.returncode, "Traceback" in interrupted.stderr) == (130, False), interrupted.stderr

    sick, healthy = finish(first, LONG_SECONDS), finish(second, LONG_SECONDS)
    assert (healthy.returncode, healthy.stdout.partition(":")[0]) == (0, "healthy"), healthy.stderr
    assert (sick.returncode, sick.stdout.partition(":")[0]) == (3, "process-reuse"), sick.stderr
    assert f"\nApply it: mops-helm upgrade {release.name} -n {release.namespace} --" in sick.stdout
    assert "single-process: one process" in sick.stderr
    assert pods(release) == []

    kept = tmp_path / "global-state" / "kept"
    found = json.loads((kept / "diagnosis.json").read_text())
    assert found["polluter"]["tasks"][0]["params"]["close_schools"] is True
    assert found["values"]["executor"]["environment"] == "image", "as the release has it"
    assert (kept / "observations.parquet").exists()
    again = subprocess.run([sys.executable, kept / "reproduce.py"], capture_output=True, timeout=120)
    assert again.returncode == 1, "the script reproduces it on this machine"
