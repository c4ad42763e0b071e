"""Environments: built once by uv from what a bundle declares, and again when they are not what they were."""

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from uv import find_uv_bin

from executor_helpers import settings, task, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.environments import declaration, venv
from modelops_dask.errors import BadInput

USES = "import iniconfig\ndef wire(e, p, s):\n    return {'from': iniconfig.__file__.encode()}\n"
PYPROJECT = '[project]\nname = "model"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = [%s]\n'
PLAIN = {"wire.py": "import sys\ndef wire(e, p, s):\n    return {'prefix': sys.prefix.encode()}\n"}


def fetch(source, chosen):
    return bundle.fetch(str(source), chosen.bundles_cache_dir)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A bundle with one small dependency and a uv.lock that chose a version which is not the newest."""
    source = write_bundle(
        tmp_path_factory.mktemp("locked"), {"pyproject.toml": PYPROJECT % '"iniconfig<2.1"', "wire.py": USES}
    )
    subprocess.run([find_uv_bin(), "lock", "-q", "--python", sys.executable], cwd=source, check=True)
    (source / "pyproject.toml").write_text(PYPROJECT % '"iniconfig"')
    return source


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "files",
    [PLAIN, {**PLAIN, "pyproject.toml": PYPROJECT % ""}, {**PLAIN, "requirements.txt": ""}],
    ids=["nothing", "pyproject", "requirements"],
)
def test_a_bundle_without_dependencies_needs_no_network(tmp_path, files):
    chosen = settings(tmp_path)
    source = write_bundle(tmp_path / "source", files)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(source, chosen))
    assert outcome.status == "ok", outcome.error
    assert outcome.outputs["prefix"].decode().startswith(str(chosen.venvs_dir))


def test_the_lock_decides(tmp_path, locked):
    chosen = settings(tmp_path)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(locked, chosen))
    assert outcome.status == "ok", outcome.error
    assert outcome.outputs["from"].decode().startswith(str(chosen.venvs_dir))
    built = venv.environment(fetch(locked, chosen), chosen)
    (version,) = built.python.parents[1].glob("lib/python*/site-packages/iniconfig-2.0*.dist-info")
    assert version.is_dir()


def test_what_is_changed_in_an_environment_is_changed_in_no_other(tmp_path, locked):
    chosen = settings(tmp_path)
    built = venv.environment(fetch(locked, chosen), chosen)
    (module,) = built.python.parents[1].glob("lib/python*/site-packages/iniconfig/__init__.py")
    before = module.read_text()
    with module.open("a") as file:  # in place, as a model may do it
        file.write("# changed\n")
    with venv.fresh_environment(fetch(locked, chosen), chosen) as another:
        (other,) = another.python.parents[1].glob("lib/python*/site-packages/iniconfig/__init__.py")
        assert other.read_text() == before


@pytest.mark.parametrize("form", ["pyproject.toml", "requirements.txt"])
def test_without_a_lock_the_chosen_versions_are_kept(tmp_path, form):
    text = PYPROJECT % '"iniconfig<2.1"' if form == "pyproject.toml" else "iniconfig<2.1\n"
    source = write_bundle(tmp_path / "source", {form: text, "wire.py": USES})
    chosen = settings(tmp_path)
    with executors.create(chosen) as executor:
        assert executor.run(task(source, chosen)).status == "ok"
    (kept,) = chosen.venvs_dir.glob("*.txt")
    assert "iniconfig==2.0" in kept.read_text()
    assert "--hash=sha256:" in kept.read_text()


def test_the_key_follows_the_declaration_and_nothing_else(tmp_path):
    chosen = settings(tmp_path)

    def key(name, dependencies, **more):
        files = {"pyproject.toml": PYPROJECT % dependencies, **PLAIN, **more}
        return declaration.read(fetch(write_bundle(tmp_path / name, files), chosen)).digest

    assert key("a", "") == key("b", "", model="other code")
    assert key("a", "") != key("c", '"iniconfig"')
    local = '"local"]\n[tool.uv.sources]\nlocal = {path = "local"}\n#'
    assert key("d", local) != key("e", local, model="other code"), "a package inside the bundle counts"


def test_a_second_use_builds_nothing(tmp_path, caplog):
    chosen = settings(tmp_path)
    one = fetch(write_bundle(tmp_path / "source", PLAIN), chosen)
    first = venv.environment(one, chosen)
    caplog.clear()
    with caplog.at_level(logging.INFO, "distributed.modelops"):
        assert venv.environment(one, chosen) == first
        assert caplog.text == ""


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda root: (root / venv.RECORD).unlink(), "not finished"),
        (lambda root: (root / venv.RECORD).write_text("{"), "not finished"),
        (lambda root: (root / "bin/python").unlink(), "its interpreter is gone"),
        (lambda root: next(root.glob("lib/*/site-packages")).joinpath("x-1.dist-info").mkdir(), r"x-1"),
    ],
    ids=["torn", "half a record", "no interpreter", "a package more"],
)
def test_an_environment_that_is_not_as_built_is_built_again(tmp_path, caplog, harm, said):
    chosen = settings(tmp_path)
    one = fetch(write_bundle(tmp_path / "source", PLAIN), chosen)
    built = venv.environment(one, chosen)
    harm(built.python.parents[1])
    with caplog.at_level(logging.INFO, "distributed.modelops"):
        assert venv.environment(one, chosen) == built
    assert said in caplog.text
    assert subprocess.run([built.python, "-c", ""], check=True).returncode == 0
    assert not list(built.python.parents[1].glob("lib/*/site-packages/x-1.dist-info"))


def test_validation_can_be_turned_off(tmp_path, caplog):
    chosen = settings(tmp_path, validate_deps=False)
    one = fetch(write_bundle(tmp_path / "source", PLAIN), chosen)
    built = venv.environment(one, chosen)
    next(built.python.parents[1].glob("lib/*/site-packages")).joinpath("x-1.dist-info").mkdir()
    caplog.clear()
    with caplog.at_level(logging.INFO, "distributed.modelops"):
        venv.environment(one, chosen)
    assert caplog.text == ""


def test_four_processes_build_one_environment_once(tmp_path, locked):
    chosen = settings(tmp_path)
    one = fetch(locked, chosen)
    script = tmp_path / "build.py"
    script.write_text(
        textwrap.dedent(f"""
        import logging, sys
        from pathlib import Path
        from modelops_dask import bundle
        from modelops_dask.environments import venv
        from modelops_dask.settings import Settings
        logging.basicConfig(level=logging.INFO, stream=sys.stdout)
        one = bundle.Bundle(Path({str(one.path)!r}), {one.digest!r})
        print("python", venv.environment(one, Settings(venvs_dir=Path({str(chosen.venvs_dir)!r}))).python)
        """)
    )
    builders = [
        subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = [builder.communicate(timeout=120)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0] * 4
    assert "".join(said).count("building") == 1
    assert len({text.splitlines()[-1] for text in said}) == 1


def test_the_image_environment_is_this_interpreter(tmp_path):
    chosen = settings(tmp_path, executor_environment="image")
    source = write_bundle(tmp_path / "source", {**PLAIN, "pyproject.toml": PYPROJECT % '"no-such-package"'})
    with executors.create(chosen) as executor:
        outcome = executor.run(task(source, chosen))
    assert outcome.outputs["prefix"].decode() == sys.prefix
    assert not chosen.venvs_dir.exists()


def test_a_fresh_environment_is_private_and_removed(tmp_path):
    chosen = settings(tmp_path, force_fresh_venv=True)
    source = write_bundle(tmp_path / "source", PLAIN)
    prefixes = []
    for _ in range(2):
        with executors.create(chosen) as executor:
            prefixes += [executor.run(task(source, chosen)).outputs["prefix"].decode() for _ in range(2)]
            assert Path(prefixes[-1]).is_dir()
    assert prefixes[0] == prefixes[1] != prefixes[2]
    assert list((chosen.venvs_dir / "fresh").iterdir()) == []


def test_cold_with_fresh_environments_has_one_a_task(tmp_path):
    chosen = settings(tmp_path, executor_type="cold", force_fresh_venv=True)
    source = write_bundle(tmp_path / "source", PLAIN)
    with executors.create(chosen) as executor:
        prefixes = {executor.run(task(source, chosen)).outputs["prefix"] for _ in range(2)}
        assert len(prefixes) == 2
        assert list((chosen.venvs_dir / "fresh").iterdir()) == []


def test_private_environments_of_killed_workers_are_swept(tmp_path):
    chosen = settings(tmp_path, force_fresh_venv=True)
    one = fetch(write_bundle(tmp_path / "source", PLAIN), chosen)
    left = chosen.venvs_dir / "fresh" / "left"
    left.mkdir(parents=True)
    (left.parent / "left.lock").touch()
    with venv.fresh_environment(one, chosen) as first, venv.fresh_environment(one, chosen) as second:
        assert not left.exists()
        assert first.python.exists(), "in use, so not swept"
        assert first.python != second.python


@pytest.mark.usefixtures("offline")
def test_a_failed_build_says_what_uv_said_without_passwords(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "0")
    monkeypatch.setenv("UV_INDEX_URL", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    chosen = settings(tmp_path)
    source = write_bundle(tmp_path / "source", {"pyproject.toml": PYPROJECT % '"iniconfig"', "wire.py": USES})
    with executors.create(chosen) as executor, pytest.raises(venv.BuildFailed) as failed:
        executor.run(task(source, chosen))
    assert "127.0.0.1:9" in str(failed.value)
    assert "hunter2" not in str(failed.value)
    assert not [path for path in chosen.venvs_dir.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("required", "said"),
    [("<3.10", "the bundle requires Python <3.10; this worker has 3"), ("3.x", "requires-python: Invalid")],
)
def test_a_bundle_for_another_python_is_refused(tmp_path, required, said):
    text = PYPROJECT.replace(">=3.11", required) % ""
    chosen = settings(tmp_path)
    one = fetch(write_bundle(tmp_path / "source", {"pyproject.toml": text, "wire.py": USES}), chosen)
    with pytest.raises(BadInput, match=said):
        venv.environment(one, chosen)
    assert not [path for path in chosen.venvs_dir.iterdir() if path.is_dir()]
