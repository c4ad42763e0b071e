"""Environments: built once by uv from what a bundle declares, and again when they are not what they were."""

import logging
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from uv import find_uv_bin

from executor_helpers import settings, task, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.environments import declaration, uv, venv
from package_helpers import write_wheel

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
        (lambda root: (root / venv.RECORD).unlink(), "incomplete"),
        (lambda root: (root / venv.RECORD).write_text("{"), "incomplete"),
        (lambda root: (root / "bin/python").unlink(), "its interpreter is missing"),
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


# Environments are copies of a template


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Wheels of tiny, with a script, and of other; uv has an empty cache, and no network."""
    hello = b"import sys\ndef hello():\n    print(sys.prefix)\n"
    write_wheel(tmp_path / "wheels", "tiny", content=hello, script="hello")
    write_wheel(tmp_path / "wheels", "other")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return tmp_path / "wheels"


def installed_files(environment):
    return [
        path
        for path in environment.python.parents[1].rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != venv.RECORD
    ]


def test_a_second_environment_of_the_same_packages_is_a_copy_that_asks_uv_for_nothing(
    tmp_path, wheels, monkeypatch
):
    chosen = settings(tmp_path)
    one, same, more = (
        fetch(write_bundle(tmp_path / name, {**PLAIN, "requirements.txt": text}), chosen)
        for name, text in (("one", "tiny\n"), ("same", "tiny  # again\n"), ("more", "tiny\nother\n"))
    )
    first = venv.environment(one, chosen)
    assert venv.resolve(same, chosen) == venv.resolve(one, chosen)
    runs = []
    monkeypatch.setattr(venv, "run_uv", lambda *arguments, **_: runs.append(arguments) or "")
    second = venv.environment(same, chosen)
    with venv.fresh_environment(one, chosen) as fresh:
        assert {fresh.digest, second.digest} == {first.digest}
        assert fresh.python.exists()
    assert first.key != second.key
    assert runs == []
    monkeypatch.undo()
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert venv.environment(more, chosen).digest != first.digest, "other packages are another template"


def test_no_file_of_an_environment_is_shared_with_uvs_cache_or_another_environment(tmp_path, wheels):  # noqa: ARG001
    chosen = settings(tmp_path)
    one = fetch(write_bundle(tmp_path / "one", {**PLAIN, "requirements.txt": "tiny\n"}), chosen)
    built = venv.environment(one, chosen)
    files = installed_files(built)
    assert files
    assert {path.stat().st_nlink for path in files} == {1}
    for path in files:  # as a model may do it
        path.chmod(0o644)
        with path.open("a") as file:
            file.write("# changed\n")
    with venv.fresh_environment(one, chosen) as fresh:
        assert not [path for path in installed_files(fresh) if path.read_bytes().endswith(b"# changed\n")]


@pytest.mark.parametrize("form", ["requirements.txt", "uv.lock"])
def test_programs_of_a_copied_environment_run_in_it(tmp_path, wheels, form):  # noqa: ARG001
    chosen = settings(tmp_path)
    source = write_bundle(tmp_path / "one", {**PLAIN, "requirements.txt": "tiny\n"})
    if form == "uv.lock":
        write_bundle(source, {"pyproject.toml": PYPROJECT % '"tiny"'})
        subprocess.run([find_uv_bin(), "lock", "-q", "--python", sys.executable], cwd=source, check=True)
    one = fetch(source, chosen)
    with venv.fresh_environment(one, chosen) as fresh:
        for environment in (venv.environment(one, chosen), fresh):
            program = environment.python.with_name("hello")
            done = subprocess.run([program], capture_output=True, text=True, check=True)
            assert Path(done.stdout.strip()) == environment.python.parents[1]


@pytest.mark.parametrize(
    "harm",
    [
        lambda template: (template / venv.RECORD).unlink(),
        lambda template: (template / "bin/python").unlink(),
        lambda template: next(template.glob("lib/*/site-packages")).joinpath("x-1.dist-info").mkdir(),
    ],
    ids=["torn", "no interpreter", "a package more"],
)
def test_a_template_that_is_not_as_built_is_built_again(tmp_path, wheels, harm):  # noqa: ARG001
    chosen = settings(tmp_path)
    one = fetch(write_bundle(tmp_path / "one", {**PLAIN, "requirements.txt": "tiny\n"}), chosen)
    built = venv.environment(one, chosen)
    (template,) = (path for path in (chosen.venvs_dir / "templates").iterdir() if path.is_dir())
    harm(template)
    with venv.fresh_environment(one, chosen) as fresh:
        assert fresh.digest == built.digest
        assert subprocess.run([fresh.python, "-c", "import tiny"]).returncode == 0


def test_bytecode_of_a_template_is_used_in_its_copies(tmp_path, wheels, monkeypatch):  # noqa: ARG001
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    chosen = settings(tmp_path)
    one = fetch(write_bundle(tmp_path / "one", {**PLAIN, "requirements.txt": "tiny\n"}), chosen)
    python = venv.environment(one, chosen).python
    done = subprocess.run([python, "-v", "-c", "import tiny"], capture_output=True, text=True, check=True)
    assert re.search(r"code object from '\S+/site-packages/__pycache__/tiny", done.stderr), done.stderr[
        -2000:
    ]


def test_what_is_built_is_told_stage_by_stage(tmp_path, wheels):  # noqa: ARG001
    chosen, stages = settings(tmp_path), []
    one = fetch(write_bundle(tmp_path / "one", {**PLAIN, "requirements.txt": "tiny\nother\n"}), chosen)
    with uv.listening(stages.append):
        built = venv.environment(one, chosen)
        again = venv.environment(one, chosen)
    assert stages == ["choosing packages", "installing 2 packages"]
    assert re.match(r"Built the model's environment in \d+\.\d s: Python 3\.\S+, 2 packages \(", built.built)
    assert again.built == ""
    venv.environment(fetch(write_bundle(tmp_path / "two", PLAIN), chosen), chosen)
    assert len(stages) == 2, "nobody listens any more"


def test_downloads_are_counted_down_as_uv_tells_them(tmp_path):
    program = tmp_path / "uv"
    lines = [
        "Downloading a (2.0MiB)",
        "Downloading b (1.0MiB)",
        " Downloaded a",
        " Downloaded b",
        "Prepared 2 packages in 1s",
    ]
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}' >&2\n" for line in lines) + "cat\nexit 3\n")
    program.chmod(0o755)
    stages = []
    with pytest.MonkeyPatch.context() as patch, uv.listening(stages.append):
        patch.setattr("uv.find_uv_bin", lambda: str(program))
        done = uv.try_uv("pip", "sync", folder=tmp_path, stdin="list")
    assert (done.returncode, done.stdout) == (3, "list")
    assert stages == [
        "downloading a (2.0MiB)",
        "downloading a (2.0MiB) and 1 more",
        "downloading b (1.0MiB)",
        "installing 2 downloaded packages",
    ]
