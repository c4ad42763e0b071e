"""A bundle's Python: another one than the worker's where the bundle needs it, else refused in plain words."""

import hashlib
import subprocess
import sys
import sysconfig
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uv

from executor_helpers import settings, task, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.environments import interpreters, venv
from modelops_dask.environments.interpreters import Interpreter, NoPython
from modelops_dask.environments.uv import NoUv
from modelops_dask.errors import BadInput
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.store.study import begin
from modelops_dask.study import packages
from package_helpers import serve, write_index, write_wheel
from python_helpers import OTHERS, OWN, PROJECT, needs_other

WIRE = """
import random, sys
RANDOM = random.Random(1)

def wire(entrypoint, params, seed):
    version = "%d.%d" % sys.version_info[:2]
    drawn = f"{random.random()} {RANDOM.random()}"
    return {"python": version.encode(), "drawn": drawn.encode()}
"""


def write_model(folder, requires, dependencies="", **files):
    project = PROJECT % (requires, dependencies)
    return write_bundle(folder, {"wire.py": WIRE, "pyproject.toml": project, **files})


def fetch(source, chosen):
    return bundle.fetch(str(source), chosen.bundles_cache_dir)


@needs_other
@pytest.mark.parametrize(
    ("version", "kind"),
    [
        *((version, "isolated_fork") for version in OTHERS),
        *((version, "isolated_warm") for version in OTHERS[:1]),
        *((version, "cold") for version in OTHERS[-1:]),
    ],
)
def test_models_run_with_the_python_that_they_need(tmp_path, version, kind):
    chosen = settings(tmp_path, executor_type=kind)
    source = write_model(tmp_path / "source", f"=={version}.*")
    with executors.create(chosen) as executor:
        outcomes = [executor.run(task(source, chosen, seed=seed)) for seed in (1, 2, 1)]
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3, outcomes[0].error
    assert outcomes[0].outputs["python"].decode() == version
    assert outcomes[0].outputs == outcomes[2].outputs != outcomes[1].outputs, "only the seed decides"


def test_the_workers_own_python_is_used_where_it_fits_and_its_names_and_digests_stay(tmp_path):
    chosen = settings(tmp_path)
    own_tag = f"cp{'.'.join(map(str, sys.version_info[:3]))}-{sysconfig.get_platform()}"
    for number, requires in enumerate((">=3.9", f"=={OWN}.*", "<4")):
        one = fetch(write_model(tmp_path / f"source{number}", requires), chosen)
        built = venv.environment(one, chosen)
        assert built.key.endswith(f"-{own_tag}")
        assert built.digest == hashlib.sha256(own_tag.encode()).hexdigest()[:16], "of no packages"
    assert interpreters.find_python(one, replace(chosen, executor_python=OWN)).path == sys.executable
    assert interpreters.own_interpreter().kind == (
        f"cp{OWN.replace('.', '')}-{sysconfig.get_platform().replace('-', '_')}"
    )


@needs_other
def test_the_nearest_version_that_fits_is_taken():
    below = [version for version in OTHERS if int(version[2:]) < sys.version_info[1]]
    above = [version for version in OTHERS if int(version[2:]) > sys.version_info[1]]
    installed = interpreters.list_installed(Path.cwd())
    for requires, expected in ((f"<{OWN}", below[-1:]), (f">{OWN}.99", above[:1])):
        rule = interpreters.VersionRule(interpreters.SpecifierSet(requires), "", "")
        nearest = interpreters._nearest(interpreters.PythonRequest((rule,), Path.cwd()), installed)
        assert [nearest.minor_version] * bool(nearest) == expected


@needs_other
def test_a_study_goes_on_with_the_python_and_the_packages_that_it_began_with(tmp_path, monkeypatch):
    www, other = tmp_path / "www", OTHERS[-1]
    write_index(www, write_wheel(www / "files", "tiny"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    source = write_model(tmp_path / "source", ">=3.9", '"tiny"')
    (tmp_path / "study.yaml").write_text("name: s\nmodel: m.f\nscenario: b\nreplicates: 2\nsets: [{x: 1}]\n")
    first, later = (settings(tmp_path / name) for name in ("first", "later"))
    one = fetch(source, first)
    store = Store(str(tmp_path / "store"))
    begin(store, spec.load(tmp_path / "study.yaml"), one.digest)
    with serve(www) as http:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{http.server_port}/simple")
        chosen = packages.pin(store, one, replace(first, executor_python=other))
        assert chosen.python == other
        (kind,) = packages.list_kinds(store)
        assert kind.startswith(f"cp{other.replace('.', '')}-")
        environment = venv.environment(chosen, replace(first, executor_python=other))
        without_a_setting = packages.pin(store, one, later)
        assert without_a_setting == chosen
        assert packages.read_pinned(store, one, later) == chosen, "verify, try and diagnose"
        assert venv.environment(without_a_setting, later).digest == environment.digest
        on_purpose = packages.pin(store, one, replace(later, executor_python=OWN))
        assert on_purpose.packages is not None
        assert len(packages.list_kinds(store)) == 2, "another version has a list of its own"
    said = subprocess.run([environment.python, "-c", "import sys; print(sys.version)"], capture_output=True)
    assert said.stdout.decode().startswith(other)


@needs_other
def test_a_lock_file_is_installed_for_the_python_that_it_allows(tmp_path, monkeypatch):
    write_wheel(tmp_path / "wheels", "tiny")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    chosen, version = settings(tmp_path), OTHERS[0]
    source = write_model(tmp_path / "source", f"=={version}.*", '"tiny"')
    python = interpreters.find_python(fetch(source, chosen), chosen)
    subprocess.run([uv.find_uv_bin(), "lock", "-q", "--python", python.path], cwd=source, check=True)
    (source / "pyproject.toml").write_text((source / "pyproject.toml").read_text().replace("requires-p", "#"))
    environment = venv.environment(fetch(source, chosen), chosen)
    assert python.tag in environment.key, "the lock file's requires-python counts, too"
    assert subprocess.run([environment.python, "-c", "import tiny"]).returncode == 0


# Refusals


@pytest.mark.parametrize(
    ("requires", "chosen", "words"),
    [
        ("<3.9", {}, ["source/pyproject.toml:4:19: the model needs Python <3.9;", "Python 3.9 or newer"]),
        (
            ">=4",
            {},
            ["the model needs Python >=4; no version of Python 3 fits that", 'requires-python = ">=3.9"'],
        ),
        (">=3.13,<3.13", {}, ["no version of Python 3 fits that"]),
        ("3.12", {}, ['write ">=3.12" or "==3.12.*"']),
        ("3.x", {}, ["source/pyproject.toml:4:19: requires-python: Invalid specifier", '">=3.10,<3.13"']),
        (
            ">=3.10",
            {"executor_python": "3.9"},
            ["executor.python: the values ask for Python 3.9", "no version"],
        ),
        (">=3.30", {}, ["needs Python >=3.30", f"only these are installed: {OTHERS[0]}." if OTHERS else OWN]),
        (">=3.30", {"executor_environment": "image"}, ["executor.environment=image", "which is 3."]),
        (">=3.30", {"executor_type": "direct"}, ["executor.type=direct", "which is 3.", "another executor"]),
    ],
)
def test_a_python_that_is_not_to_be_had_is_refused_with_the_place_and_the_way_out(
    tmp_path, monkeypatch, requires, chosen, words
):
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    values = settings(tmp_path, **chosen)
    one = fetch(write_model(tmp_path / "source", requires), values)
    with pytest.raises(BadInput) as refused:
        interpreters.check_machine(one, values)
    for word in words:
        assert word in str(refused.value)
    assert not values.venvs_dir.exists()
    with pytest.raises(type(refused.value)):
        interpreters.find_python(one, values)


def test_what_a_driver_refuses_needs_no_look_at_the_machine(tmp_path):
    values = settings(tmp_path)
    with pytest.raises(NoPython, match="Port the model to a newer Python"):
        interpreters.check_request(fetch(write_model(tmp_path / "old", "==3.8.*"), values), Settings())
    interpreters.check_request(fetch(write_model(tmp_path / "new", ">=3.30"), values), Settings())


def test_one_release_is_told_from_all_of_a_minor_version(tmp_path, monkeypatch):
    """As where 3.12.1 is installed and ==3.12 is asked for."""
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    values = settings(tmp_path)
    fitting = Interpreter("/python", "cpython", (3, 31, 1), "linux-x86_64")
    monkeypatch.setattr(interpreters, "list_installed", lambda _: [fitting])
    with pytest.raises(NoPython, match=r"==3.31 means only 3.31.0. For any 3.31 write ==3.31.\*"):
        interpreters.find_python(fetch(write_model(tmp_path / "source", "==3.31"), values), values)
    with pytest.raises(NoPython, match="Install one"):
        interpreters.find_python(fetch(write_model(tmp_path / "other", "==3.32"), values), values)


def test_the_place_of_requires_python_is_that_of_the_project_table(tmp_path):
    values = settings(tmp_path)
    text = '[tool.x]\nrequires-python = ">=3"\n[project]\nname = "m"\n  requires-python   =  "<3.9"\n'
    one = fetch(write_model(tmp_path / "source", "", **{"pyproject.toml": text}), values)
    with pytest.raises(NoPython, match=r"/source/pyproject.toml:5:24: the model needs Python <3.9"):
        interpreters.check_request(one, values)


def test_old_stores_go_on_where_models_ran_with_a_python_that_nobody_asked_for(tmp_path, monkeypatch):
    values = settings(tmp_path, executor_environment="image")
    one = fetch(write_model(tmp_path / "source", ">=3.30"), values)
    (tmp_path / "study.yaml").write_text("name: s\nmodel: m.f\nscenario: b\nreplicates: 2\nsets: [{x: 1}]\n")
    store = Store(str(tmp_path / "store"))
    begin(store, spec.load(tmp_path / "study.yaml"), one.digest)
    with pytest.raises(NoPython):
        packages.pin(store, one, values)
    study = packages.read_study(store)
    monkeypatch.setattr(packages, "read_study", lambda _: replace(study, upgraded=True))
    assert packages.pin(store, one, values) == one


# Downloads


@contextmanager
def mirror(asked):
    """A place for Pythons that has none; `asked` gets the paths that uv asks for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize(
    ("own_setting", "allowed", "is_asked", "words"),
    [
        ("never", False, False, "or let uv download it: --set executor.pythonDownloads=true"),
        ("manual", False, False, "or let uv download it: --set executor.pythonDownloads=true"),
        ("never", True, True, "uv did not download it:"),
        ("automatic", False, True, "uv did not download it:"),
    ],
)
def test_a_python_is_downloaded_only_where_a_setting_lets_it(
    tmp_path, monkeypatch, own_setting, allowed, is_asked, words
):
    asked = []
    values = settings(tmp_path, python_downloads=allowed)
    one = fetch(write_model(tmp_path / "source", f">{OWN}.99,<3.15"), values)
    monkeypatch.setenv("PATH", "/usr/nothing")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "pythons"))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", own_setting)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with mirror(asked) as address:
        monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", address)
        if is_asked:
            interpreters.check_machine(one, values)
            assert asked == [], "a look downloads nothing"
        with pytest.raises(NoPython, match=words):
            interpreters.find_python(one, values)
    assert bool(asked) == is_asked


def test_without_uv_the_way_to_get_it_is_told(tmp_path, monkeypatch):
    def missing():
        raise FileNotFoundError("uv")

    values = settings(tmp_path)
    one = fetch(write_model(tmp_path / "source", ">=3.9"), values)
    monkeypatch.setattr(uv, "find_uv_bin", missing)
    with pytest.raises(NoUv, match="-m pip install --upgrade uv"):
        venv.environment(one, values)


def test_a_uv_that_is_too_old_to_list_pythons_is_named(tmp_path, monkeypatch):
    old = tmp_path / "uv"
    old.write_text("#!/bin/sh\necho \"error: unexpected argument '--output-format'\" >&2\nexit 2\n")
    old.chmod(0o755)
    values = settings(tmp_path)
    one = fetch(write_model(tmp_path / "source", ">=3.30"), values)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(old))
    with pytest.raises(NoUv, match="unexpected argument '--output-format'"):
        interpreters.find_python(one, values)


def test_a_python_version_file_is_not_read_and_that_is_told(tmp_path):
    values = settings(tmp_path)
    one = fetch(write_model(tmp_path / "source", ">=3.9", **{".python-version": "3.30\n"}), values)
    (note,) = packages.notes(one, values)
    assert ".python-version names 3.30, but models run with Python 3." in note
    assert note.endswith("--set executor.python=3.30")
    same = fetch(write_model(tmp_path / "same", ">=3.9", **{".python-version": f"{OWN}\n"}), values)
    assert packages.notes(same, values) == ()
    assert packages.notes(one, replace(values, executor_environment="image")) == ()


@needs_other
def test_a_store_of_workers_with_another_python_is_verified_with_that(tmp_path):
    own, other = interpreters.own_interpreter(), OTHERS[0]
    kind = own.kind.replace(f"cp{OWN.replace('.', '')}-", f"cp{other.replace('.', '')}-")
    values, store = settings(tmp_path), Store(str(tmp_path / "store"))
    one = fetch(write_model(tmp_path / "source", ">=3.9", '"tiny"'), values)
    store.put(f"{packages.FOLDER}/{kind}.txt", b"# of a cluster\n")
    pinned = packages.read_pinned(store, one, values)
    assert (pinned.python, pinned.packages) == (other, "# of a cluster\n")
    assert interpreters.find_python(pinned, values).minor_version == other
    store.put(f"{packages.FOLDER}/cp330-{kind.partition('-')[2]}.txt", b"# of another one\n")
    assert packages.read_pinned(store, one, values) == one, "which of the two is not known"


@pytest.mark.parametrize("content", [b"3.30\n", b"2.7", b"\xff", b"", b"../x"])
def test_a_version_in_the_store_that_is_not_here_or_not_one_is_no_reason_to_fail(tmp_path, content):
    values, store = settings(tmp_path), Store(str(tmp_path / "store"))
    one = fetch(write_model(tmp_path / "source", ">=3.9"), values)
    store.put(packages.PYTHON, content)
    pinned = packages.read_pinned(store, one, values)
    assert interpreters.find_python(pinned, values) == interpreters.own_interpreter()
