"""ct lint as `make lint` runs it: a change of the chart after a release wants a new version."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chart.rendering import ROOT, tool

CONFIGURATION = ["ct.yaml", "chart_schema.yaml", "lintconf.yaml", "tools/lint-chart.sh"]


@pytest.fixture
def checkout(tmp_path):
    """A repository of its own that holds the chart, released as v0.1.0."""
    shutil.copytree(ROOT / "charts", tmp_path / "charts")
    for name in CONFIGURATION:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", "--all")
    _git(tmp_path, "commit", "--quiet", "--message", "Release")
    return tmp_path


def _git(checkout, *args):
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", *identity, *args], cwd=checkout, check=True, capture_output=True)


def _lint(checkout):
    """The script's exit status and all it says."""
    programs = [str(Path(tool("ct")).parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        ["sh", "tools/lint-chart.sh"],
        cwd=checkout,
        env=os.environ | {"PATH": os.pathsep.join(programs)},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _edit(path, old, new):
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))


def test_a_chart_without_a_tag_passes(checkout):
    status, said = _lint(checkout)
    assert status == 0, said


def test_a_change_after_a_tag_wants_a_new_version(checkout):
    chart = checkout / "charts/modelops-dask"
    version = next(
        line for line in (chart / "Chart.yaml").read_text().splitlines() if line.startswith("version:")
    )
    _git(checkout, "tag", "v0")
    status, said = _lint(checkout)
    assert status == 0, said

    _edit(chart / "templates/NOTES.txt", "\n", "\nOne more line.\n")
    status, said = _lint(checkout)
    assert status == 1, said
    assert "Needs a version bump" in said

    _edit(chart / "Chart.yaml", version, "version: 99.0.0")
    status, said = _lint(checkout)
    assert status == 0, said


def test_a_misspelt_key_of_the_chart_is_refused(checkout):
    _edit(checkout / "charts/modelops-dask/Chart.yaml", "appVersion:", "appversion:")
    status, said = _lint(checkout)
    assert status == 1, said
    assert "appversion" in said


def test_duplicate_keys_in_values_are_refused(checkout):
    values = checkout / "charts/modelops-dask/ci/small-values.yaml"
    values.write_text(values.read_text() + "workers: {}\n")
    status, said = _lint(checkout)
    assert status == 1, said
    assert "duplication of key" in said
