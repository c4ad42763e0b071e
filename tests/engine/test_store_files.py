"""Files: whole or not there, one winner, the same in a folder and elsewhere."""

import ctypes
import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from helpers import wait_for
from modelops_dask.errors import BadInput
from modelops_dask.store.files import NoSpace, Store, StoreFailed


@pytest.fixture(params=["folder", "file://", "memory", "s3"])
def files(request, tmp_path):
    urls = {
        "folder": lambda: str(tmp_path / "s"),
        "file://": lambda: f"file://{tmp_path}/s",
        "memory": lambda: f"memory://{uuid.uuid4().hex}",
        "s3": lambda: request.getfixturevalue("s3"),
    }
    return Store(urls[request.param]())


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
    for absent in (files.read, files.open):
        with pytest.raises(FileNotFoundError):
            absent("a/4.txt")
    files.remove("a/1.txt")
    files.remove("a/4.txt")
    assert files.list("a") == ["2.txt"]


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


def test_replacing_a_folder_leaves_nothing_of_the_old(tmp_path):
    files = Store(str(tmp_path / "s"))
    for names in (["x", "y/z"], ["x", "w"]):
        with files.replacing("results", last="x") as folder:
            for name in names:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(name)
    assert files.list("results") == ["w", "x"] and files.list("results/y") == []
    with pytest.raises(ZeroDivisionError), files.replacing("results", last="x") as folder:
        (folder / "half").write_text("")
        1 / 0  # noqa: B018
    assert files.list("results") == ["w", "x"]
    assert [path.name for path in files.folder.iterdir()] == ["results"]


def test_a_clock_that_is_days_ahead_takes_nothing_from_another_run(tmp_path, monkeypatch):
    files = Store(str(tmp_path / "s"))
    with files.replacing("results", last="x") as folder:
        (folder / "x").write_text("first")
        with monkeypatch.context() as ahead:
            ahead.setattr(time, "time", lambda now=time.time: now() + 2 * 86_400)
            with files.replacing("results", last="x") as other:
                (other / "x").write_text("second")
        (folder / "x").write_text("first")
    assert files.read("results/x") == b"first"


def test_leftovers_of_killed_runs_are_removed_once_nothing_in_them_changed_for_a_day(tmp_path):
    killed, at_work = tmp_path / ".results.killed", tmp_path / ".results.at-work"
    for folder in (killed, at_work):
        (folder / "raw").mkdir(parents=True)
        (folder / "raw" / "y.parquet").write_bytes(b"half")
    for path in (killed / "raw" / "y.parquet", killed / "raw", killed, at_work / "raw", at_work):
        os.utime(path, (1e9, 1e9))
    with Store(str(tmp_path)).replacing("results", last="x"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".results.at-work", "results"]


NO_LINKS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS]


@pytest.mark.parametrize("number", NO_LINKS)
def test_a_folder_without_hard_links_still_has_one_winner(tmp_path, monkeypatch, number):
    def link(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    test_create_leaves_what_is_there(Store(str(tmp_path)))
    test_of_many_creators_one_wins(Store(str(tmp_path / "many")))
    assert not list(tmp_path.rglob(".*")), "no temporary file stays"


def test_a_folder_without_any_exclusive_way_says_so(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(StoreFailed, match="neither hard links nor"):
        Store(str(tmp_path)).create("x", b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_link_whose_answer_was_lost_is_ours(tmp_path, monkeypatch):
    """As on NFS, whose client then repeats the call."""

    def link(here, there, real=os.link):
        real(here, there)
        raise FileExistsError

    monkeypatch.setattr(os, "link", link)
    assert Store(str(tmp_path)).create("x", b"mine")
    assert not Store(str(tmp_path)).create("x", b"mine")


def test_two_that_replace_at_once(tmp_path):
    files = Store(str(tmp_path))

    def replace(number):
        with files.replacing("results", last="x") as folder:
            for name in "abc":
                (folder / name).write_text(str(number))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(replace, range(40)))
    assert len({files.read(f"results/{name}") for name in "abc"}) == 1, "a mix of two"


def test_a_store_travels_by_its_url(files):
    files.put("x", b"1")
    assert pickle.loads(pickle.dumps(files)).read("x") == b"1"
    assert files.location("parts") == files.location() + "/parts"


@pytest.mark.parametrize("url", ["nosuch://bucket/x"])
def test_an_unknown_kind_of_url(url):
    with pytest.raises(BadInput, match="nosuch"):
        Store(url).list("parts")


def test_killed_between_writing_and_renaming(tmp_path):
    """A process stopped by force with its temporary file written leaves nothing that is ever listed."""
    script = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from modelops_dask.store.files import Files, NoSpace, StoreFailed
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
    files = Store(str(tmp_path))
    wait_for(lambda: len(list((tmp_path / "parts").iterdir())) == 2, "temporary files")
    assert files.list("parts") == []
    assert files.create("parts/x.parquet", b"y") and files.list("parts") == ["x.parquet"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    files = Store(str(tmp_path))
    files.put("spec.json", b"old")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(NoSpace, match=r"spec\.json: File too large"):
            files.put("spec.json", b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert files.read("spec.json") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"], "no half-written file stays"


@pytest.mark.parametrize("files", ["s3"], indirect=True)
def test_what_an_object_store_refuses_is_named_without_credentials(files, monkeypatch):
    files.put("x", b"1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreFailed, match=r"s3://.*credentials") as caught:
        Store(files.url).put("x", b"1")
    assert caught.value.exit_code == 4


def test_a_bucket_that_is_not_there(s3):
    bucket = s3.replace("studies", "no-such-bucket")
    with pytest.raises(StoreFailed, match=r"no-such-bucket.*bucket does not exist"):
        Store(bucket).put("study.json", b"{}")


def test_a_server_that_is_not_there(s3, monkeypatch):
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreFailed, match="connect") as caught:
        Store(s3).put("x", b"1")
    assert "a-secret" not in str(caught.value) and "an-id" not in str(caught.value)


def test_a_url_with_a_password_is_refused_and_not_repeated():
    with pytest.raises(BadInput, match="use environment variables") as caught:
        Store("s3://me:hidden@bucket/x").list("parts")
    assert "hidden" not in str(caught.value)
