"""Studies whose model needs another Python than the command's: the whole way, and what is refused."""

import json

import pytest

from executor_helpers import write_bundle
from package_helpers import write_wheel
from python_helpers import OTHERS, PROJECT, needs_other
from study_helpers import mops_helm

SMALL = ["--set", "workers.replicas=1,workers.processes=1"]
STUDY = "name: s\nmodel: m.run\nscenario: b\nreplicates: 4\nsets: [{x: 1}]\n"
WIRE = """
import random, sys
import tiny

def wire(entrypoint, params, seed):
    return {"python": b"%d.%d" % sys.version_info[:2], "drawn": str(random.random()).encode()}
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A bundle that needs the oldest other Python of this machine, and tiny."""
    monkeypatch.setenv("MODELOPS_VENVS_DIR", str(tmp_path / "venvs"))
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    write_wheel(tmp_path / "wheels", "tiny", "1.0")
    project = PROJECT % (f"=={OTHERS[0]}.*", '"tiny"')
    return write_bundle(tmp_path / "model", {"wire.py": WIRE, "study.yaml": STUDY, "pyproject.toml": project})


@needs_other
def test_a_study_runs_checks_itself_and_is_verified_with_the_python_that_its_model_needs(tmp_path, model):
    store, spec = tmp_path / "s", model / "study.yaml"
    planned = mops_helm("study", "plan", spec, *SMALL, "--store", store, cwd=tmp_path)
    assert "would refuse" not in planned.stderr
    ran = mops_helm("study", "run", spec, *SMALL, "--store", store, "-o", "json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout)
    assert summary["ok"] == 4
    assert (summary["self_check"]["equal"], summary["self_check"]["different"]) == (3, [])
    assert f"Python {OTHERS[0]}." in ran.stderr
    assert "1 package" in ran.stderr
    (built,) = [
        line for line in ran.stderr.splitlines() if line.startswith("Built the model's environment in")
    ]
    assert (store / "environments" / "python").read_text() == OTHERS[0], built
    table = mops_helm("study", "results", store, "--output", "python", "--to", "csv", cwd=tmp_path)
    assert table.stdout.count(OTHERS[0]) == 4, table.stdout + table.stderr
    verified = mops_helm("study", "verify", store, "--sample", "2", cwd=tmp_path)
    assert (verified.returncode, "Nothing is wrong" in verified.stdout) == (0, True), verified.stdout
    tried = mops_helm("study", "try", store, cwd=tmp_path)
    assert "python: " in tried.stdout, tried.stderr
    again = mops_helm("study", "run", spec, *SMALL, "--store", store, cwd=tmp_path)
    assert "Built" not in again.stderr, "nothing is left to do"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_no_machine_can_run_is_refused_with_its_place(tmp_path, command):
    files = {"wire.py": WIRE, "study.yaml": STUDY, "pyproject.toml": PROJECT % ("<3.9", "")}
    folder = write_bundle(tmp_path / "model", files)
    done = mops_helm("study", command, folder / "study.yaml", *SMALL, "--store", "s", cwd=tmp_path)
    assert f"{folder}/pyproject.toml:4:19: the model needs Python <3.9; models need Python" in done.stderr
    assert done.returncode == (0 if command == "plan" else 2)
    assert not (tmp_path / "s" / "parts").exists()


def test_the_image_has_to_fit(tmp_path):
    files = {"wire.py": WIRE, "study.yaml": STUDY, "pyproject.toml": PROJECT % (">=3.30", "")}
    folder = write_bundle(tmp_path / "model", files)
    values = [*SMALL, "--set", "executor.environment=image"]
    done = mops_helm("study", "run", folder / "study.yaml", *values, "--store", "s", cwd=tmp_path)
    assert "with executor.environment=image, models run with the worker's own Python" in done.stderr
    assert done.returncode == 2
