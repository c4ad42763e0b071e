"""One study has one list of packages: chosen by one worker, kept in the store, installed by all."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from executor_helpers import settings, task, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.environments import lockfile, venv
from modelops_dask.environments.interpreters import own_interpreter
from modelops_dask.plan import spec
from modelops_dask.store.files import Store
from modelops_dask.store.identity import NoStudy
from modelops_dask.store.study import begin
from modelops_dask.study import packages
from package_helpers import serve, write_index, write_wheel

KIND = own_interpreter().kind
WIRE = "import tiny\ndef wire(e, p, s):\n    return {'version': tiny.VERSION.encode()}\n"


class Place:
    """A bundle that needs tiny, a store for its study, an index that changes, and workers."""

    def __init__(self, folder):
        self.folder = folder
        self.www = folder / "www"
        self.source = write_bundle(folder / "source", {"wire.py": WIRE, "requirements.txt": "tiny\n"})
        (folder / "study.yaml").write_text(
            "name: s\nmodel: m.run\nscenario: b\nreplicates: 2\nsets: [{x: 1}]\n"
        )
        self.files = Store(str(folder / "store"))

    def offer(self, *versions, content=b""):
        """Have the index offer these versions, and no others."""
        wheels = [write_wheel(self.www / "files", "tiny", version, content=content) for version in versions]
        write_index(self.www, *wheels)

    def begin(self):
        begin(self.files, spec.load(self.folder / "study.yaml"), self.worker("first").bundle.digest)

    def worker(self, name):
        return Worker(self, settings(self.folder / name))


class Worker:
    """A worker with caches of its own, as in another pod."""

    def __init__(self, place, chosen):
        self.place, self.settings = place, chosen
        self.bundle = bundle.fetch(str(place.source), chosen.bundles_cache_dir)

    def pinned(self):
        return packages.pin(self.place.files, self.bundle, self.settings)

    def version(self, one):
        """The version of tiny that a task of the bundle has here."""
        with executors.create(self.settings) as executor:
            outcome = executor.run(task(self.place.source, self.settings)._replace(bundle=one))
        assert outcome.status == "ok", outcome.error
        return outcome.outputs["version"].decode()


@pytest.fixture
def place(tmp_path, monkeypatch):
    found = Place(tmp_path)
    found.offer("1.0")
    with serve(found.www) as http:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{http.server_port}/simple")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        found.begin()
        yield found


def test_a_worker_that_joins_later_installs_what_the_first_one_chose(place):
    first = place.worker("first")
    one = first.pinned()
    name = f"{packages.FOLDER}/{KIND}.txt"
    text = place.files.read(name).decode()
    assert "tiny==1.0" in text
    assert "--hash=sha256:" in text
    assert first.version(one) == "1.0"
    place.offer("1.0", "2.0")
    later = place.worker("later")
    assert later.pinned().packages == one.packages == text
    assert later.version(later.pinned()) == "1.0"
    assert later.version(later.bundle) == "2.0", "without the study it would choose the newest"
    assert place.files.read(name).decode() == text


def test_a_package_that_is_not_the_one_of_the_list_is_refused(place, monkeypatch):
    place.worker("first").pinned()
    place.offer("1.0", content=b"# replaced at the index\n")
    monkeypatch.setenv("UV_CACHE_DIR", str(place.folder / "another-cache"))
    later = place.worker("later")
    with pytest.raises(venv.BuildFailed, match=r"(?i)hash mismatch"):
        later.version(later.pinned())


def test_workers_that_choose_at_once_all_get_one_list(place):
    script = place.folder / "choose.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from modelops_dask import bundle
        from modelops_dask.settings import Settings
        from modelops_dask.store.files import Store
        from modelops_dask.study import packages
        own = Path(sys.argv[1])
        chosen = Settings(bundles_cache_dir=own / "bundles", venvs_dir=own / "venvs")
        one = bundle.fetch({str(place.source)!r}, chosen.bundles_cache_dir)
        sys.stdin.readline()
        print(packages.pin(Store({place.files.url!r}), one, chosen).packages)
        """)
    )
    workers = []
    for number in range(4):
        own = place.folder / f"worker-{number}"
        write_wheel(own / "wheels", "tiny", f"{number + 1}.0")  # each sees another version
        workers.append(
            subprocess.Popen(
                [sys.executable, script, own],
                env={**os.environ, "UV_FIND_LINKS": str(own / "wheels")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    lists = [worker.communicate("\n", timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert len(set(lists)) == 1
    assert "tiny==" in lists[0]


def test_two_studies_on_one_worker_share_no_environment(place):
    worker = place.worker("first")
    old = worker.pinned()
    place.offer("1.0", "2.0")
    new = replace(worker.bundle, packages=venv.resolve(worker.bundle, place.worker("later").settings))
    with executors.create(worker.settings) as executor:
        call = task(place.source, worker.settings)
        versions = [
            executor.run(call._replace(bundle=one)).outputs["version"] for one in (old, new, old, new)
        ]
    assert versions == [b"1.0", b"2.0", b"1.0", b"2.0"]


def test_a_worker_of_another_kind_chooses_for_itself_and_says_so(place, caplog):
    place.files.create(f"{packages.FOLDER}/cp39-win32.txt", b"tiny==0.9\n")
    with caplog.at_level(logging.WARNING, "distributed.modelops"):
        assert "tiny==1.0" in place.worker("first").pinned().packages
    assert "the study also has cp39-win32" in caplog.text
    assert packages.list_kinds(place.files) == sorted([KIND, "cp39-win32"])


def test_a_worker_that_sees_no_store_begins_none(place):
    worker, elsewhere = place.worker("first"), Store(str(place.folder / "elsewhere"))
    with pytest.raises(NoStudy):
        packages.pin(elsewhere, worker.bundle, worker.settings)
    assert not elsewhere.folder.exists()


@pytest.mark.parametrize(
    ("chosen", "files"),
    [
        ({"executor_type": "direct"}, {}),
        ({"executor_environment": "image"}, {}),
        ({}, {"requirements.txt": "", "pyproject.toml": '[project]\nname = "m"\nversion = "1"\n'}),
        ({}, {"uv.lock": "version = 1\n"}),
    ],
    ids=["direct", "image", "no packages", "uv.lock"],
)
def test_where_nothing_is_chosen_the_store_has_no_list(place, chosen, files):
    write_bundle(place.source, files)
    worker = place.worker("first")
    one = packages.pin(place.files, worker.bundle, replace(worker.settings, **chosen))
    assert one == worker.bundle
    assert packages.list_kinds(place.files) == []


def test_a_list_has_no_password_and_no_path_of_a_machine(place):
    host = os.environ["UV_DEFAULT_INDEX"].split("/")[2]
    write_wheel(place.source / "wheels", "beside", "1.0")
    lines = [
        f"tiny @ http://user:hunter2@{host}/files/tiny-1.0-py3-none-any.whl",
        "beside @ file:${PROJECT_ROOT}/wheels/beside-1.0-py3-none-any.whl",
    ]
    write_bundle(place.source, {"requirements.txt": "\n".join(lines)})
    worker = place.worker("first")
    one = worker.pinned()
    assert "hunter" not in one.packages
    assert str(place.folder) not in one.packages
    assert worker.version(one) == "1.0"
    later = place.worker("later")
    assert later.version(later.pinned()) == "1.0"
    kept = [path for path in worker.settings.venvs_dir.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hunter2" in path.read_bytes()]


def test_a_stale_lock_is_an_error_and_in_a_store_of_an_older_version_a_warning(place):
    files = {
        "pyproject.toml": '[project]\nname = "m"\nversion = "1"\ndependencies = ["tiny", "attrs"]\n',
        "uv.lock": 'version = 1\nrequires-python = ">=3.11"\n[[package]]\nname = "m"\nversion = "1"\n'
        'source = { virtual = "." }\ndependencies = [{ name = "tiny" }]\n'
        '[package.metadata]\nrequires-dist = [{ name = "tiny" }]\n',
    }
    write_bundle(place.source, files)
    worker = place.worker("first")
    with pytest.raises(lockfile.StaleLock, match=r"pyproject.toml has attrs, uv.lock does not"):
        worker.pinned()
    study = {"bundle": worker.bundle.digest, "entrypoint": "m.run/b", "format": 1}
    place.files.put("study.json", json.dumps(study).encode())
    older = packages.pin(place.files, worker.bundle, worker.settings)
    assert older == worker.bundle
    (note,) = packages.notes(older, worker.settings)
    assert "pyproject.toml has attrs, uv.lock does not" in note
    assert "continues with the packages of uv.lock" in note
    assert packages.notes(older, replace(worker.settings, executor_environment="image")) == ()
