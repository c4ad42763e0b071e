"""`doctor` sees what is there, says what to do about the rest, and exits 3 only for what is required."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from mops_helm import doctor
from mops_helm.main import main
from python_helpers import OTHERS


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts programs that print a line, and nothing else, on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, line: str, status: int = 0) -> None:
        (folder / name).write_text(f"#!/bin/sh\necho '{line}'\nexit {status}\n")
        (folder / name).chmod(0o755)

    return add


def run(*args: str):
    return CliRunner().invoke(main, ["doctor", *args])


def test_all_is_well_here():
    result = run()
    assert result.exit_code == 0, result.output
    for name in ("Python", "Dask", "packages", "uv", "machine", "processes", "executors"):
        assert f"ok       {name} " in result.stdout
    assert "CPUs" in result.stdout and "GiB free" in result.stdout


def test_as_data():
    checks = json.loads(run("-o", "json").stdout)
    assert {"name", "state", "found", "purpose", "advice", "required"} == set(checks[0])
    assert {"Python", "Dask", "uv", "helm", "kubectl"} <= {check["name"] for check in checks}


def test_a_missing_kubectl_is_said_and_is_no_error(programs):
    programs("helm", "v4.1.0")
    result = run()
    assert result.exit_code == 0
    assert "missing  kubectl" in result.stdout and "-> install kubectl" in result.stdout


def test_helm_versions(programs):
    programs("helm", "v4.1.0")
    assert doctor.helm().state == "ok"
    programs("helm", "v2.17.0")
    check = doctor.helm()
    assert (check.state, check.required) == ("too old", False)
    assert "make tools" in check.advice


def test_a_kubectl_that_fails_is_missing(programs):
    programs("kubectl", "Client Version: v1.30.2")
    assert doctor.kubectl().detail == "1.30.2"
    programs("kubectl", "", status=1)
    assert doctor.kubectl().state == "missing"


def test_old_and_missing_packages(monkeypatch):
    versions = {"click": "7.0", "dask": "2026.8.0", "distributed": "2026.7.0"}

    def version(name: str) -> str:
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    real = metadata.version
    monkeypatch.setattr(metadata, "version", version)
    states = {check.name: check for check in doctor.packages()}
    assert states["click"].state == "too old" and "needs 8" in states["click"].detail
    assert states["scipy"].state == "missing"
    assert states["Dask"].state == "wrong" and states["Dask"].advice.endswith("distributed==2026.8.0")
    assert not doctor.healthy(list(states.values()))


def test_the_pythons_that_models_can_run_with_are_listed(monkeypatch, tmp_path):
    (check,) = doctor.pythons()
    assert all(f"{version}." in check.detail for version in OTHERS)
    assert "3.8." not in check.detail
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    assert [check.detail for check in doctor.pythons()] == ["uv finds none"]


def test_every_requirement_of_ours_can_be_read():
    assert {check.state for check in doctor.packages()} == {"ok"}
    found = next(check.detail for check in doctor.packages() if check.name == "packages")
    assert int(found.split()[0]) > 10


def test_extras_are_not_required(monkeypatch):
    monkeypatch.setattr(
        metadata, "requires", lambda _: ["click>=8.0", 'no-such-package>=1; extra == "image"']
    )
    assert [(check.name, check.state, check.detail) for check in doctor.packages()] == [
        ("packages", "ok", "1 have the required version")
    ]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELOPS_VENVS_DIR", str(tmp_path / "file" / "venvs"))
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(tmp_path / "new" / "bundles"))
    result = run()
    assert result.exit_code == 3
    assert "wrong    environments" in result.stdout and "set MODELOPS_VENVS_DIR" in result.stdout
    assert "ok       bundles" in result.stdout
    assert not (tmp_path / "new").exists(), "doctor changes nothing"


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "MIN_FREE_GIB", 10**9)
    check = doctor.cache("bundles", "", Path(tmp_path))
    assert check.state == "wrong" and "MODELOPS_BUNDLES_CACHE_DIR" in check.advice


def test_a_variable_that_cannot_be_read(monkeypatch):
    monkeypatch.setenv("MODELOPS_EXECUTOR_TYPE", "warm")
    result = run()
    assert result.exit_code == 3
    assert "MODELOPS_EXECUTOR_TYPE='warm'" in result.stdout


@pytest.mark.parametrize(
    ("platform", "state", "said"),
    [("linux", "ok", "cold"), ("darwin", "ok", "no memory guard"), ("win32", "missing", "win32")],
)
def test_platforms(monkeypatch, platform, state, said):
    monkeypatch.setattr("sys.platform", platform)
    check = doctor.executors()
    assert check.state == state and said in check.detail
    assert ("WSL2" in check.advice) == (platform == "win32")
