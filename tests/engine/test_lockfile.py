"""A uv.lock that does not fit its pyproject.toml is told from the two files alone."""

import json
import os
import random
import re
import shutil
import subprocess

import pytest
from uv import find_uv_bin

from executor_helpers import write_bundle
from modelops_dask.bundle import Bundle
from modelops_dask.environments import lockfile
from modelops_dask.errors import BadInput
from package_helpers import write_wheel

NAMES = ("alpha", "beta-x", "gamma", "delta")
PROJECT = """
[project]
name = "Model.Name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = [
    "Alpha >= 1.0.0, <3", "beta_x[more]~=1.0; python_version < '3.99'", "gamma==1.*", "local", "apart",
]
[project.optional-dependencies]
fast = ["delta"]
[dependency-groups]
dev = ["delta==1.5"]
[tool.uv]
constraint-dependencies = ["alpha<2"]
override-dependencies = ["gamma==1.5"]
[tool.uv.sources]
local = {path = "packages/local"}
apart = {git = "GIT", rev = "v1"}
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Wheels of NAMES 1.0, 1.5 and 2.0."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in NAMES:
        for version in ("1.0", "1.5", "2.0"):
            write_wheel(folder, name.replace("-", "_"), version)
    return folder


@pytest.fixture
def lock(tmp_path, wheels, monkeypatch):
    """Lock a bundle without an index."""
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))

    def run(folder):
        subprocess.run([find_uv_bin(), "lock", "-q"], cwd=folder, check=True)
        return Bundle(folder, "")

    return run


@pytest.fixture(scope="module")
def original(tmp_path_factory, wheels):
    """A locked bundle that has a package of its own, and one from a repository."""
    repository = write_bundle(
        tmp_path_factory.mktemp("apart"), {"pyproject.toml": '[project]\nname = "apart"\nversion = "1"\n'}
    )
    who = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "1"], ["tag", "v1"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    text = PROJECT.replace("GIT", repository.as_uri())
    local = '[project]\nname = "local"\nversion = "1"\ndependencies = ["delta>1"]\n'
    files = {"pyproject.toml": text, "packages/local/pyproject.toml": local}
    folder = write_bundle(tmp_path_factory.mktemp("source"), files)
    variables = {"UV_FIND_LINKS": str(wheels), "UV_OFFLINE": "1", "UV_CACHE_DIR": str(wheels / "uv-cache")}
    subprocess.run([find_uv_bin(), "lock", "-q"], cwd=folder, env={**os.environ, **variables}, check=True)
    return folder


@pytest.fixture
def locked(tmp_path, original):
    """A copy of it."""
    return Bundle(shutil.copytree(original, tmp_path / "source"), "")


def change(bundle, before, after, name="pyproject.toml"):
    path = bundle.path / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_lock_that_fits_is_accepted(locked):
    lockfile.check(locked)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"Alpha >= 1.0.0, <3"', '"alpha<3,>=1.0"'),
        ("beta_x[more]~=1.0; python_version < '3.99'", "Beta.X [ MORE ] ~= 1.0 ; python_version<'3.99'"),
        ('version = "0.1.0"', 'version = "0.2.0"'),
        ('dev = ["delta==1.5"]', 'dev = ["delta==2.0"]'),
        ('fast = ["delta"]', "fast = []"),
    ],
)
def test_what_changes_no_package_is_no_difference(locked, before, after):
    change(locked, before, after)
    lockfile.check(locked)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            '"gamma==1.*"',
            '"gamma==1.*", "attrs==25.4.0"',
            "pyproject.toml has attrs==25.4.0, uv.lock does not",
        ),
        ('"gamma==1.*", ', "", "uv.lock has gamma==1.*, pyproject.toml does not"),
        (">= 1.0.0, <3", ">=2", "pyproject.toml has alpha>=2, uv.lock alpha<3,>=1.0.0"),
        (
            "beta_x[more]",
            "beta_x",
            'pyproject.toml has beta-x~=1.0 ; python_version < "3.99", uv.lock beta-x[more]',
        ),
        ('["alpha<2"]', '["alpha<1.5"]', "constraint-dependencies of pyproject.toml has alpha<1.5"),
        ('["gamma==1.5"]', "[]", "uv.lock has gamma==1.5, override-dependencies of pyproject.toml does not"),
        ('rev = "v1"', 'rev = "v2"', "apart has another source in pyproject.toml"),
        ('local = {path = "packages/local"}', "", "local has another source in pyproject.toml"),
        ("[tool.uv.sources]", '[tool.uv.sources]\ngamma = {path = "g"}', "gamma has another source"),
        (
            '"gamma==1.*"',
            "\"gamma==1.*; sys_platform == 'linux'\"",
            'has gamma==1.* ; sys_platform == "linux"',
        ),
        (
            "; python_version < '3.99'",
            "; python_version < '3.12'",
            'has beta-x[more]~=1.0 ; python_version < "3.12"',
        ),
    ],
)
def test_what_changes_packages_is_named(locked, before, after, message):
    change(locked, before, after)
    with pytest.raises(lockfile.StaleLock, match=re.escape(message)) as stale:
        lockfile.check(locked)
    assert str(stale.value).endswith("Update it in the bundle's folder: uv lock")


def test_a_package_inside_the_bundle_is_looked_at_too(locked):
    change(locked, "delta>1", "delta<2", "packages/local/pyproject.toml")
    with pytest.raises(
        lockfile.StaleLock, match=r"packages/local/pyproject.toml has delta<2, uv.lock delta>1"
    ):
        lockfile.check(locked)


def test_dependencies_that_a_build_backend_provides_are_not_compared(locked):
    change(locked, "\ndependencies = [\n", '\ndynamic = ["dependencies"]\nx = [\n')
    lockfile.check(locked)


def test_a_lock_that_cannot_be_read_is_named(tmp_path):
    write_bundle(tmp_path, {"uv.lock": "version = \n"})
    with pytest.raises(BadInput, match=r"^uv.lock of the bundle: .*line 1, column 11"):
        lockfile.check(Bundle(tmp_path, ""))


@pytest.mark.parametrize("seed", range(8))
def test_a_lock_fits_until_what_is_declared_changes(tmp_path, lock, seed):
    print("seed", seed)
    rng = random.Random(seed)

    def declared():
        versions = ["", "<2", ">=1", "==1.*", "~=1.0", "!=1.5,<2", ">1"]
        linux, windows = "; sys_platform == 'linux'", "; sys_platform == 'win32'"
        markers = ["", "", "; python_version > '3.6'", f"{linux} or os_name == 'nt'", linux, windows]
        chosen = rng.sample(NAMES, rng.randrange(1, 5))
        return {name: rng.choice(versions) + rng.choice(markers) for name in chosen}

    def write(wanted):
        lines = json.dumps([name + rest for name, rest in wanted.items()])
        head = '[project]\nname = "m"\nversion = "1"\nrequires-python = ">=3.11"\n'
        (tmp_path / "pyproject.toml").write_text(f"{head}dependencies = {lines}\n")

    first = declared()
    write(first)
    bundle = lock(tmp_path)
    lockfile.check(bundle)
    for _ in range(8):
        other = {name: rest for name, rest in first.items() if rng.random() < 0.8} | declared()
        write(other)
        checked = subprocess.run([find_uv_bin(), "lock", "--check", "-q"], cwd=tmp_path, capture_output=True)
        if checked.returncode:
            with pytest.raises(lockfile.StaleLock):
                lockfile.check(bundle)
        else:
            lockfile.check(bundle)


def test_packages_that_exchange_their_markers_are_named(tmp_path, lock):
    text = """
[project]
name = "m"
version = "1"
requires-python = ">=3.11"
dependencies = ["alpha==1.0; sys_platform == 'linux'", "alpha==1.5; sys_platform != 'linux'"]
"""
    write_bundle(tmp_path, {"pyproject.toml": text})
    bundle = lock(tmp_path)
    lockfile.check(bundle)
    exchanged = text.replace("1.5", "X").replace("1.0", "1.5").replace("X", "1.0")
    write_bundle(tmp_path, {"pyproject.toml": exchanged})
    with pytest.raises(
        lockfile.StaleLock, match=r"alpha==1.0 ; sys_platform != .*, uv.lock alpha==1.0 ; sys_platform =="
    ):
        lockfile.check(bundle)
