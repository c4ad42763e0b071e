"""Packages that a bundle declares where nothing is read are told, with the way out."""

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask.bundle import Bundle
from modelops_dask.environments import declaration, elsewhere, venv
from modelops_dask.errors import BadInput

PROJECT = '[project]\nname = "model"\nversion = "1"\n'
ELSEWHERE = {
    "environment.yml": ({"environment.yml": "dependencies: [numpy]\n"}, "environment.yml"),
    "conda.yaml": ({"conda.yaml": "dependencies: [numpy]\n"}, "conda.yaml"),
    "poetry": ({"pyproject.toml": "[tool.poetry.dependencies]\npython = '^3.11'\nnumpy = '*'\n"}, "poetry"),
    "poetry group": (
        {"pyproject.toml": "[tool.poetry.group.model.dependencies]\nnumpy = '*'\n"},
        "[tool.poetry.group] of pyproject.toml",
    ),
    "pixi": ({"pyproject.toml": "[tool.pixi.pypi-dependencies]\nnumpy = '*'\n"}, "pixi"),
    "pixi.toml": ({"pixi.toml": "[dependencies]\nnumpy = '*'\n"}, "pixi.toml"),
    "setup.py": ({"setup.py": "setup(name='m', install_requires=['numpy'])\n"}, "setup.py"),
    "setup.cfg": ({"setup.cfg": "[options]\ninstall_requires =\n  numpy\n"}, "setup.cfg"),
    "Pipfile": ({"Pipfile": "[packages]\nnumpy = '*'\n"}, "Pipfile"),
    "beside a project": ({"pyproject.toml": PROJECT, "requirements.txt": "numpy\n"}, "requirements.txt"),
    "requirements.in": ({"requirements.in": "numpy\n"}, "requirements.in"),
    "requirements-model.txt": ({"requirements-model.txt": "numpy\n"}, "requirements-model.txt"),
    "requirements/": ({"requirements/base.txt": "numpy\n"}, "requirements/base.txt"),
    "groups": (
        {"pyproject.toml": f"{PROJECT}[dependency-groups]\nmodel = ['numpy']\n"},
        "[dependency-groups]",
    ),
    "extras": ({"pyproject.toml": f"{PROJECT}[project.optional-dependencies]\nx = ['numpy']\n"}, "optional"),
    "script": ({"wire.py": "# /// script\n# dependencies = ['numpy']\n# ///\n"}, "wire.py"),
    "pylock": ({"pylock.toml": "lock-version = '1.0'\n"}, "pylock.toml"),
}


def bundle_of(folder, files):
    return Bundle(write_bundle(folder, files), "")


@pytest.mark.parametrize(("files", "name"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_packages_that_are_declared_elsewhere_are_told(tmp_path, files, name):
    bundle = bundle_of(tmp_path, files)
    line = elsewhere.hint(bundle)
    assert name in line
    assert "is not read" in line
    assert "[project] of pyproject.toml" in line
    assert "--set executor.environment=image" in line
    assert "\n" not in line
    assert elsewhere.hint_on_missing_module(bundle) == line


@pytest.mark.parametrize(
    "files",
    [
        {"wire.py": "import json\n"},
        {"pyproject.toml": f"{PROJECT}[dependency-groups]\ndev = ['pytest']\n"},
        {"pyproject.toml": f"{PROJECT}[project.optional-dependencies]\ntest = ['pytest']\n"},
        {"pyproject.toml": "[tool.poetry.dependencies]\npython = '^3.11'\n"},
        {
            "setup.py": "from setuptools import setup\nsetup()\n",
            "setup.cfg": "[flake8]\nmax-line-length = 99\n",
        },
        {"requirements-dev.txt": "pytest\n", "requirements/test.txt": "pytest\n"},
    ],
    ids=["nothing", "dev group", "test extra", "python", "setup for tools", "dev requirements"],
)
def test_what_no_model_needs_is_not_told(tmp_path, files):
    bundle = bundle_of(tmp_path, files)
    assert elsewhere.hint(bundle) == ""
    assert "declares no packages" in elsewhere.hint_on_missing_module(bundle)


def test_what_is_read_or_included_is_not_told(tmp_path):
    files = {"requirements.txt": "-r requirements/base.txt\n", "requirements/base.txt": "numpy\n"}
    bundle = bundle_of(tmp_path, files)
    assert elsewhere.hint(bundle) == ""
    assert elsewhere.hint_on_missing_module(bundle) == ""
    write_bundle(tmp_path, {"environment.yml": "dependencies: [scipy]\n"})
    assert elsewhere.hint(bundle) == "", "packages come from requirements.txt"
    assert "environment.yml" in elsewhere.hint_on_missing_module(bundle)


@pytest.mark.parametrize("name", ["requirements.txt", "in/base.txt", "pyproject.toml"])
def test_paths_of_a_conda_environment_get_advice(tmp_path, name):
    line = "six @ file:///croot/six_1644875935023/work"
    files = {
        "requirements.txt": {"requirements.txt": f"# pip freeze\nattrs==25.4.0\n{line}\n"},
        "in/base.txt": {
            "requirements.txt": "-r in/base.txt\n",
            "in/base.txt": f"attrs \\\n  ==25.4.0\n{line}\n",
        },
        "pyproject.toml": {"pyproject.toml": f'{PROJECT}dependencies = ["{line}"]\n'},
    }[name]
    bundle, place = bundle_of(tmp_path / "source", files), f"{name}:3" if "txt" in name else name
    with pytest.raises(BadInput) as failed:
        venv.resolve(bundle, settings(tmp_path))
    assert str(failed.value).startswith(f"{place}: {line}: this path does not exist")
    assert "pip list --format=freeze > requirements.txt" in str(failed.value)


def test_a_path_where_something_is_may_be_named(tmp_path):
    (tmp_path / "six-1.0-py3-none-any.whl").touch()
    line = f"six @ {(tmp_path / 'six-1.0-py3-none-any.whl').as_uri()}\n"
    assert declaration.read(bundle_of(tmp_path / "source", {"requirements.txt": line})).missing == ()
