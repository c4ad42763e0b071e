"""Environments under stress: fifty workers at once, a full disk, no network, a worker that was killed."""

import logging
import subprocess
import sys
from dataclasses import replace

import pytest
from uv import find_uv_bin

import race_helpers
from executor_helpers import settings, task, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.environments import venv
from package_helpers import serve, write_index, write_wheel

PYPROJECT = '[project]\nname = "model"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["tiny"]\n'
WIRE = "import tiny\ndef wire(e, p, s):\n    return {'from': tiny.__file__.encode()}\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index with tiny-1.0 alone, and a cache of uv's that is empty."""
    write_index(tmp_path / "www", write_wheel(tmp_path / "www" / "files", "tiny"))
    with serve(tmp_path / "www") as http:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{http.server_port}/simple")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        yield http


@pytest.fixture
def locked(tmp_path, index):  # noqa: ARG001 (uv asks it)
    """A bundle with uv.lock that needs tiny."""
    source = write_bundle(tmp_path / "source", {"pyproject.toml": PYPROJECT, "wire.py": WIRE})
    subprocess.run([find_uv_bin(), "lock", "-q", "--python", sys.executable], cwd=source, check=True)
    return source


def fetch(source, chosen):
    return bundle.fetch(str(source), chosen.bundles_cache_dir)


def test_fifty_workers_build_one_environment_once(tmp_path, locked):
    chosen = settings(tmp_path)
    found = race_helpers.at_once(50, race_helpers.environment_and_builds, fetch(locked, chosen), chosen)
    assert len({environment for environment, _ in found}) == 1
    assert sum(builds for _, builds in found) == 1
    with executors.create(chosen) as executor:
        assert executor.run(task(locked, chosen)).status == "ok"
    (folder,) = (
        path
        for path in chosen.venvs_dir.iterdir()
        if path.is_dir() and path.name not in ("fresh", "templates")
    )
    assert found[0][0].python.parents[1] == folder


def test_workers_at_once_each_have_an_environment_of_their_own(tmp_path, locked):
    chosen = settings(tmp_path, force_fresh_venv=True)
    one = fetch(locked, chosen)
    found = race_helpers.at_once(8, race_helpers.fresh_python, one, chosen)
    assert len(set(found)) == 8
    assert list((chosen.venvs_dir / "fresh").iterdir()) == []


@pytest.mark.parametrize("form", ["uv.lock", "pyproject.toml", "requirements.txt"])
def test_what_uv_has_in_its_cache_needs_no_index(tmp_path, locked, index, caplog, form):
    if form != "uv.lock":
        (locked / "uv.lock").unlink()
    if form == "requirements.txt":
        (locked / "pyproject.toml").unlink()
        (locked / "requirements.txt").write_text("tiny\n")
    chosen = settings(tmp_path)
    one = fetch(locked, chosen)
    built = venv.environment(one, chosen)
    index.shutdown()
    index.server_close()
    caplog.clear()
    with caplog.at_level(logging.INFO, "distributed.modelops"):
        assert venv.environment(one, chosen) == built
    assert caplog.text == "", "it is there, and nobody is asked"
    with venv.fresh_environment(one, chosen) as private:
        assert private.python != built.python
        assert private.digest == built.digest
        assert subprocess.run([private.python, "-c", "import tiny"]).returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB, which an environment fills."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_a_failed_build_and_leaves_nothing(tmp_path, locked, small_disk):
    chosen = settings(tmp_path)
    one = fetch(locked, chosen)
    (small_disk / "full").write_bytes(bytes(4 * 1024**2 - 16 * 1024))
    full = settings(small_disk)
    for build in (venv.environment, _fresh):
        with pytest.raises(venv.BuildFailed) as failed:
            build(one, full)
        assert "No space left on device" in str(failed.value)
        assert failed.value.command
    left = [
        path
        for path in full.venvs_dir.rglob("*")
        if path.suffix != ".lock" and path.name not in ("fresh", "templates")
    ]
    assert left == []
    (small_disk / "full").unlink()
    with executors.create(replace(full, bundles_cache_dir=chosen.bundles_cache_dir)) as executor:
        assert executor.run(task(locked, chosen)).status == "ok"


def test_a_disk_that_fills_while_a_bundle_is_copied(tmp_path, small_disk):
    source = write_bundle(tmp_path / "big", {"wire.py": WIRE, "data.csv": "1" * 5 * 1024**2})
    with pytest.raises(bundle.FetchFailed, match="No space left on device"):
        bundle.fetch(str(source), small_disk / "bundles")
    assert list((small_disk / "bundles" / "new").iterdir()) == []
    assert list((small_disk / "bundles").glob("*.json")) == []
    (source / "data.csv").write_text("1")
    assert bundle.fetch(str(source), small_disk / "bundles").digest == bundle.digest(source)


def _fresh(one, chosen):
    with venv.fresh_environment(one, chosen):
        pass


@pytest.mark.parametrize("next_one", [venv.environment, _fresh], ids=["shared", "private"])
def test_the_private_environment_of_a_killed_worker_is_removed_at_the_next_start(tmp_path, next_one):
    chosen = settings(tmp_path, force_fresh_venv=True)
    one = fetch(write_bundle(tmp_path / "source", {"wire.py": "def wire(e, p, s): ...\n"}), chosen)

    def is_there():
        assert list((chosen.venvs_dir / "fresh").glob("*/venv/bin/python"))
        next_one(one, chosen)
        assert list((chosen.venvs_dir / "fresh").glob("*/venv/bin/python")), "in use, so it stays"

    race_helpers.killed_in(race_helpers.hang_in_environment, one, chosen, then=is_there)
    assert list((chosen.venvs_dir / "fresh").iterdir())
    next_one(one, chosen)
    assert list((chosen.venvs_dir / "fresh").iterdir()) == []
