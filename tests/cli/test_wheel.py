"""The wheel works away from the checkout: it carries the chart, the presets, the schemas and the scaffold."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel, and nothing else of ours, installed into it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(find_uv_bin(), "build", "-q", "--wheel", "--out-dir", folder / "dist", ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", folder / "site", wheel)
    return folder / "site"


def run(*command: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def mops_helm(installed, tmp_path):
    """Runs mops-helm from the wheel in an empty folder; the other packages are this environment's."""
    env = os.environ | {"PYTHONPATH": str(installed)}
    where = run(sys.executable, "-c", "import mops_helm; print(mops_helm.__file__)", env=env, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed)

    def call(*args: object) -> str:
        return run(sys.executable, "-m", "mops_helm.main", *args, env=env, cwd=tmp_path)

    return call


def test_shows_a_preset(mops_helm):
    assert "replicas: 2" in mops_helm("preset", "show", "simulation")


@pytest.mark.skipif(not shutil.which("helm"), reason="needs helm on PATH")
def test_renders_a_preset(mops_helm):
    rendered = mops_helm("preset", "render", "simulation")
    assert "kind: Deployment" in rendered and "--nworkers" in rendered


def test_starts_a_study(mops_helm):
    mops_helm("study", "new", "measles")
    assert "100" in mops_helm("study", "plan", "measles/study.yaml")


def test_has_the_templates_of_pages(installed):
    """Every file of the packages, such as templates of pages and their style, is in the wheel."""
    for package in (ROOT / "cli" / "mops_helm", ROOT / "engine" / "modelops_dask"):
        names = {
            path.relative_to(package.parent)
            for ending in ("html", "css")
            for path in package.rglob(f"*.{ending}")
        }
        assert names and not [name for name in names if not (installed / name).is_file()]


def test_has_a_console_script(installed):
    assert (installed / "bin" / "mops-helm").exists()
