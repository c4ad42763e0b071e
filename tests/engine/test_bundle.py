"""Bundles: the digest of a tree, the cache, and the search for the nearest one."""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from executor_helpers import write_bundle
from modelops_dask import bundle
from modelops_dask.bundle.listing import find_changes, read_listing
from modelops_dask.errors import BadInput

FILES = {"wire.py": "def wire(e, p, s): ...\n", "model/a.py": "A = 1\n", "data/x.csv": "1,2\n"}


@pytest.fixture
def source(tmp_path):
    return write_bundle(tmp_path / "source", FILES)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_the_digest_is_that_of_the_documented_bytes(tmp_path):
    """Computed again from its description: it must never change, for stores and caches are keyed by it."""
    source = write_bundle(tmp_path / "one", {"b/wire.py": "x = 1\n", "a.txt": "", "b.txt": "é"})
    (source / "b" / "wire.py").chmod(0o755)
    (source / "link").symlink_to("b/wire.py")
    rows = [
        (b"file", b"a.txt", b""),
        (b"file", b"b.txt", "é".encode()),
        (b"executable", b"b/wire.py", b"x = 1\n"),
        (b"link", b"link", b"b/wire.py"),
    ]
    text = b"".join(kind + b"\0" + name + b"\0" + hashlib.sha256(data).digest() for kind, name, data in rows)
    assert bundle.digest(source) == f"sha256:{hashlib.sha256(text).hexdigest()}"


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "model/a.py").write_text("A = 2\n"),
        lambda root: (root / "model/a.py").rename(root / "model/b.py"),
        lambda root: (root / "model/a.py").chmod(0o755),
        lambda root: (root / "new.txt").write_text(""),
        lambda root: (root / "data/x.csv").unlink(),
        lambda root: (root / "link").symlink_to("wire.py"),
    ],
    ids=["content", "name", "executable", "new", "removed", "link"],
)
def test_the_digest_follows_the_tree(source, change):
    before = bundle.digest(source)
    change(source)
    assert bundle.digest(source) != before


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".git/HEAD",
            "model/__pycache__/a.cpython-311.pyc",
            ".venv/bin/python",
            "out/study/study.json",
            "model/a.pyc",
        ),
        *("study.yaml", "study-long.json", "model.egg-info/PKG-INFO", ".modelops-bundle/state.json"),
        "report.html",
    ],
)
def test_junk_and_studies_are_left_out(source, cache, name):
    before = bundle.digest(source)
    write_bundle(source, {name: "junk"})
    assert bundle.digest(source) == before
    assert not (bundle.fetch(str(source), cache).path / name).exists()


def test_a_store_in_the_bundle_is_none_of_it_wherever_it_lies(source):
    before = bundle.digest(source)
    for name in ("study.json", "spec.json", "sets/000000.parquet", "parts/a.parquet"):
        write_bundle(source, {f"data/first/{name}": "x"})
    assert bundle.digest(source) == before
    write_bundle(source, {"data/study.json": "x", "data/spec.json": "x"})
    assert bundle.digest(source) != before, "two names alone make no store"


def test_what_changed_between_two_bundles_of_a_cache(source, cache):
    first = bundle.fetch(str(source), cache)
    (source / "model/a.py").chmod(0o755)
    (source / "data/x.csv").unlink()
    write_bundle(source, {"wire.py": "x = 2\n", "more.csv": "1", ".modelopsignore": "*.tmp\n"})
    second = bundle.fetch(str(source), cache)
    changes = find_changes(read_listing(first, ()), read_listing(second, ()), second)
    expected = ["removed data/x.csv", "changed model/a.py", "added more.csv", "changed wire.py"]
    assert list(map(str, changes)) == expected and not any(change.is_harmless for change in changes)


def test_only_the_top_out_folder_is_junk(source):
    before = bundle.digest(source)
    write_bundle(source, {"model/out/x.py": "X = 1\n"})
    assert bundle.digest(source) != before


def test_times_and_other_modes_do_not_count(source):
    before = bundle.digest(source)
    os.utime(source / "wire.py", (1, 1))
    (source / "wire.py").chmod(0o600)
    assert bundle.digest(source) == before


def test_the_ignore_file_leaves_out_and_takes_back(source, cache):
    first = bundle.digest(source)
    write_bundle(source, {".modelopsignore": "*.tmp\n!report.html\n"})
    assert bundle.digest(source) == first, "a rule changes nothing that a model reads"
    write_bundle(source, {"report.html": "a template"})
    copy = bundle.fetch(str(source), cache)
    assert copy.digest != first and bundle.digest(copy.path) == copy.digest
    write_bundle(source, {".modelopsignore": "# big files\ndata/*\n!data/keep.csv\n*.tmp\nlogs/\n"})
    before = bundle.digest(source)
    write_bundle(source, {"data/more.csv": "3", "model/x.tmp": "t", "logs/a.txt": "l"})
    assert bundle.digest(source) == before
    write_bundle(source, {"data/keep.csv": "4"})
    assert bundle.digest(source) != before


def test_a_fetched_bundle_is_a_copy_under_its_digest(source, cache):
    (source / "model/a.py").chmod(0o755)
    (source / "link").symlink_to("wire.py")
    found = bundle.fetch(str(source), cache)
    assert found.path == cache / found.digest.removeprefix("sha256:")
    assert bundle.digest(found.path) == found.digest == bundle.digest(source)
    shutil.rmtree(source)
    assert (found.path / "link").read_text() == FILES["wire.py"]
    assert os.access(found.path / "model/a.py", os.X_OK)
    assert bundle.fetch(found.digest, cache) == found
    assert bundle.fetch(f"registry.example/models/sir@{found.digest}", cache) == found


@pytest.mark.parametrize(
    "harm",
    [
        lambda root: (root / "model/a.py").write_text("A = 'torn"),
        lambda root: (root / "model/a.py").unlink(),
        lambda root: (root / "model/a.py").chmod(0o755),
        lambda root: root.with_name(f"{root.name}.json").write_text("["),
    ],
    ids=["edited", "removed", "executable", "torn list"],
)
def test_a_changed_copy_is_made_again(source, cache, caplog, harm):
    found = bundle.fetch(str(source), cache)
    harm(found.path)
    assert bundle.fetch(str(source), cache) == found
    assert (found.path / "model/a.py").read_text() == FILES["model/a.py"]
    assert bundle.digest(found.path) == found.digest
    assert "its cached copy was changed" in caplog.text


def test_a_file_that_a_model_wrote_does_not_move_the_copy_from_under_it(source, cache, caplog):
    found = bundle.fetch(str(source), cache)
    before = found.path.stat().st_ino
    (found.path / "scratch.csv").write_text("1")
    assert bundle.fetch(str(source), cache) == found
    assert found.path.stat().st_ino == before
    assert caplog.text == ""


def test_many_fetchers_get_one_whole_copy(source, cache):
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: bundle.fetch(str(source), cache), range(16)))
    assert len(found) == 1
    assert list((cache / "new").iterdir()) == []
    assert sorted(path.suffix for path in cache.iterdir()) == ["", "", ".json", ".lock"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../other", "model/../../other"])
def test_a_link_that_leaves_the_tree_is_refused(source, target):
    (source / "link").symlink_to(target)
    with pytest.raises(BadInput, match=r"source/link: the link points outside the bundle"):
        bundle.digest(source)


def test_a_pipe_is_refused(source):
    os.mkfifo(source / "pipe")
    with pytest.raises(BadInput, match=r"source/pipe: not a file or folder"):
        bundle.digest(source)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/no/such/folder", "no such folder or archive"),
        ("x@sha256:" + "0" * 64, "missing or changed in .*cache"),
    ],
)
def test_what_cannot_be_fetched_is_bad_input(cache, reference, message):
    with pytest.raises(BadInput, match=message):
        bundle.fetch(reference, cache)


@pytest.mark.parametrize(
    "files",
    [
        {".modelops-bundle/registry.yaml": ""},
        {".modelops/manifest.json": "{}"},
        {"wire.py": ""},
        {"pyproject.toml": '[project.entry-points."modelops.wire"]\nsir = "sir.wire:wire"\n'},
    ],
    ids=lambda files: next(iter(files)),
)
def test_the_nearest_bundle_is_found(tmp_path, files):
    outer = write_bundle(tmp_path / "outer", {"wire.py": ""})
    inner = write_bundle(outer / "inner", files)
    (inner / "studies" / "deep").mkdir(parents=True)
    assert bundle.find(inner / "studies" / "deep") == inner
    assert bundle.find(inner) == inner
    assert bundle.find(outer) == outer


def test_a_misspelt_module_is_told_from_a_missing_bundle(tmp_path):
    write_bundle(tmp_path, {"epidemic.py": "", "plots/__init__.py": "", "my model.py": "", "2.py": ""})
    with pytest.raises(BadInput, match=r"no module epidemics; did you mean epidemic\?"):
        bundle.find(tmp_path, "epidemics.simulate")
    with pytest.raises(BadInput, match=r"no module sir; its modules are epidemic, plots\."):
        bundle.find(tmp_path, "sir.simulate")


def test_a_pyproject_of_something_else_is_no_bundle(tmp_path):
    write_bundle(tmp_path, {"pyproject.toml": '[project]\nname = "other"\n'})
    with pytest.raises(BadInput, match=r"no bundle found in .* or above it"):
        bundle.find(tmp_path)
