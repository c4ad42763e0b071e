"""Files: whole or not there, one winner, the same in a folder and elsewhere."""

import pickle
import signal
import subprocess
import sys
import textwrap
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import wait_for
from modelops_dask.errors import BadInput
from modelops_dask.store.files import Files


@pytest.fixture(params=["folder", "file://", "memory://"])
def files(request, tmp_path):
    urls = {
        "folder": str(tmp_path / "s"),
        "file://": f"file://{tmp_path}/s",
        "memory://": f"memory://{uuid.uuid4().hex}",
    }
    return Files(urls[request.param])


def test_put_read_list(files):
    assert files.list("a") == []
    files.put("a/2.txt", b"two")
    files.put("a/1.txt", b"one")
    files.put("a/deeper/3.txt", b"three")
    files.put("a/1.txt", b"new")
    assert files.list("a") == ["1.txt", "2.txt"]
    assert files.read("a/1.txt") == b"new"
    with files.open("a/2.txt") as file:
        assert file.read(2) == b"tw"
    with pytest.raises(FileNotFoundError):
        files.read("a/4.txt")


def test_create_leaves_what_is_there(files):
    assert files.create("a/x", b"first")
    assert not files.create("a/x", b"second")
    assert files.read("a/x") == b"first"


def test_of_many_creators_one_wins(files):
    for turn in range(20):
        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(lambda i, name=f"a/{turn}": files.create(name, b"%d" % i), range(8)))
        assert won.count(True) == 1
        assert files.read(f"a/{turn}") == b"%d" % won.index(True)
    assert len(files.list("a")) == 20


def test_replacing_a_folder_leaves_nothing_of_the_old(files):
    for names in (["x", "y/z"], ["x", "w"]):
        with files.replacing("results") as folder:
            for name in names:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(name)
    assert files.list("results") == ["w", "x"] and files.list("results/y") == []
    with pytest.raises(ZeroDivisionError), files.replacing("results") as folder:
        (folder / "half").write_text("")
        1 / 0  # noqa: B018
    assert files.list("results") == ["w", "x"]
    if files.folder:
        assert [path.name for path in files.folder.iterdir()] == ["results"]


def test_two_that_replace_at_once(tmp_path):
    files = Files(str(tmp_path))

    def replace(number):
        with files.replacing("results") as folder:
            for name in "abc":
                (folder / name).write_text(str(number))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(replace, range(40)))
    assert len({files.read(f"results/{name}") for name in "abc"}) == 1, "a mix of two"


def test_a_store_travels_by_its_url(files):
    files.put("x", b"1")
    assert pickle.loads(pickle.dumps(files)).read("x") == b"1"
    assert files.where("parts") == files.where() + "/parts"


@pytest.mark.parametrize("url", ["nosuch://bucket/x"])
def test_an_unknown_kind_of_url(url):
    with pytest.raises(BadInput, match="nosuch"):
        Files(url).list("parts")


def test_killed_between_writing_and_renaming(tmp_path):
    """A process stopped by force with its temporary file written leaves nothing that is ever listed."""
    script = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from modelops_dask.store.files import Files
        Path.replace = os.link = lambda *_: (print("written", flush=True), time.sleep(60))
        getattr(Files(sys.argv[1]), sys.argv[2])("parts/x.parquet", b"x" * 1000)
    """)
    for verb in ("put", "create"):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), verb], stdout=subprocess.PIPE
        )
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
        process.stdout.close()
    files = Files(str(tmp_path))
    wait_for(lambda: len(list((tmp_path / "parts").iterdir())) == 2, "temporary files")
    assert files.list("parts") == []
    assert files.create("parts/x.parquet", b"y") and files.list("parts") == ["x.parquet"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    files = Files(str(tmp_path))
    files.put("spec.json", b"old")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError):
            files.put("spec.json", b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert files.read("spec.json") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"], "no half-written file stays"
