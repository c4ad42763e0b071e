"""Studies and the packages of their bundle: one list for all runs, and a word where packages are missing."""

import json
import shutil

import pytest

from executor_helpers import write_bundle
from package_helpers import write_wheel
from study_helpers import mops_helm

SMALL = ["--set", "workers.replicas=1,workers.processes=1"]
WIRE = "import tiny\ndef wire(e, p, s):\n    return {'version': tiny.VERSION.encode()}\n"
STUDY = "name: s\nmodel: m.run\nscenario: b\nreplicates: 2\nsets: [{x: 1}]\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A bundle that needs tiny, of which there is version 1.0."""
    monkeypatch.setenv("MODELOPS_VENVS_DIR", str(tmp_path / "venvs"))
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    write_wheel(tmp_path / "wheels", "tiny", "1.0")
    return write_bundle(
        tmp_path / "model", {"wire.py": WIRE, "study.yaml": STUDY, "requirements.txt": "tiny\n"}
    )


def test_what_runs_later_for_a_store_has_the_packages_of_its_first_run(tmp_path, folder):
    done = mops_helm(
        "study", "run", "model/study.yaml", *SMALL, "--store", tmp_path / "s", "-o", "json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 2
    (kept,) = (tmp_path / "s" / "environments").iterdir()
    assert "tiny==1.0" in kept.read_text()
    shutil.rmtree(tmp_path / "venvs")  # another machine, another week
    write_wheel(tmp_path / "wheels", "tiny", "2.0")
    done = mops_helm("study", "verify", tmp_path / "s", "--sample", "2", cwd=tmp_path)
    assert (done.returncode, "Nothing is wrong" in done.stdout) == (0, True), done.stdout + done.stderr
    done = mops_helm("study", "try", tmp_path / "s", cwd=tmp_path)
    assert "version: 3 bytes" in done.stdout, done.stderr
    assert not list((tmp_path / "venvs").glob("*/lib/python*/site-packages/tiny-2.0*"))
    (folder / "study.yaml").write_text(STUDY.replace("replicates: 2", "replicates: 4"))
    done = mops_helm(
        "study", "run", "model/study.yaml", *SMALL, "--store", tmp_path / "s", "-o", "json", cwd=tmp_path
    )
    assert json.loads(done.stdout)["ok"] == 4, done.stderr
    assert json.loads(done.stdout)["mixed"] == ""
    versions = mops_helm(
        "study", "results", tmp_path / "s", "--output", "version", "--to", "csv", cwd=tmp_path
    )
    assert "2.0" not in versions.stdout


BACKEND = """
import os
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, settings=None):
    with open({log!r}, "a") as log:
        log.write(os.environ.get("WHO", "the driver") + "\\n")
    info = Path(folder, "m-1.dist-info")
    info.mkdir()
    needs = Path("needs.txt").read_text()
    head = "Metadata-Version: 2.1\\nName: m\\nVersion: 1\\n"
    (info / "METADATA").write_text(head + "Requires-Dist: " + needs)
    return info.name

def build_wheel(folder, settings=None, metadata=None):
    raise SystemExit("nobody installs the bundle itself")
"""


def test_a_worker_runs_the_build_backend_of_dynamic_dependencies_and_the_driver_never(tmp_path, folder):
    (folder / "requirements.txt").unlink()
    pyproject = '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'
    pyproject += '[project]\nname = "m"\nversion = "1"\ndynamic = ["dependencies"]\n'
    backend = BACKEND.format(log=str(tmp_path / "log"))
    write_bundle(folder, {"pyproject.toml": pyproject, "back.py": backend, "needs.txt": "tiny"})
    words = [*SMALL, "--set", "workers.env.WHO=a worker"]
    done = mops_helm("study", "run", "model/study.yaml", *words, "--store", tmp_path / "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set((tmp_path / "log").read_text().splitlines()) == {"a worker"}
    (kept,) = (tmp_path / "s" / "environments").iterdir()
    assert "tiny==1.0" in kept.read_text()


def test_packages_that_are_declared_elsewhere_are_told_before_and_after(tmp_path, folder):
    (folder / "requirements.txt").rename(folder / "environment.yml")
    words = ("environment.yml of the bundle is not read", "[project] of pyproject.toml")
    done = mops_helm("study", "run", "model/study.yaml", *SMALL, "--store", tmp_path / "s", cwd=tmp_path)
    assert done.returncode == 4, "the model does not start"
    before, _, after = done.stderr.partition("Stopped: the model does not start")
    assert all(word in before and word in after for word in words)
    done = mops_helm("study", "try", "model/study.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert all(word in done.stderr and word in done.stdout for word in words)


def test_a_stale_lock_stops_a_study_before_it_runs(tmp_path, folder):
    write_bundle(
        folder,
        {
            "pyproject.toml": '[project]\nname = "m"\nversion = "1"\n'
            'dependencies = ["tiny", "attrs==25.4.0"]\n',
            "uv.lock": 'version = 1\nrequires-python = ">=3.11"\n[[package]]\nname = "m"\nversion = "1"\n'
            'source = { virtual = "." }\ndependencies = [{ name = "tiny" }]\n'
            '[package.metadata]\nrequires-dist = [{ name = "tiny" }]\n',
        },
    )
    for words in (
        ("run", "model/study.yaml", *SMALL, "--store", tmp_path / "s"),
        ("try", "model/study.yaml"),
    ):
        done = mops_helm("study", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "pyproject.toml has attrs==25.4.0, uv.lock does not" in done.stderr
        assert "uv lock" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list((tmp_path / "s" / "parts").glob("*"))
