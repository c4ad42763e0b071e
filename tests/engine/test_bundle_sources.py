"""Bundles from elsewhere: archives by path and URL, pins, the cache, and many who ask at once."""

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

import race_helpers
from archive_helpers import FORMS, pack
from executor_helpers import write_bundle
from helpers import wait_for
from modelops_dask import bundle
from modelops_dask.bundle import FetchFailed

FILES = {"wire.py": "def wire(e, p, s): ...\n", "model/a.py": "A = 1\n"}
SECRET = "hunter2"


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.count[self.path] += 1
        if self.path.startswith("/status/"):
            self.send_error(int(self.path.removeprefix("/status/").partition("?")[0]))
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"PK")
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """An HTTP server of tmp_path/www; `count` has the requests for each path, `url` ends in a slash."""
    (tmp_path / "www").mkdir()
    handler = partial(Handler, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.count, http.url = Counter(), f"http://127.0.0.1:{http.server_port}/"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http
        http.shutdown()


@pytest.fixture
def source(tmp_path):
    return write_bundle(tmp_path / "source", FILES)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def archive(tmp_path, server, source):
    """An archive that the server has."""
    (tmp_path / "www" / "sir.tar.gz").write_bytes(pack(source, "tar.gz"))
    return f"{server.url}sir.tar.gz"


@pytest.mark.parametrize("form", FORMS)
def test_by_path_and_file_url(tmp_path, source, cache, form):
    path = tmp_path / f"sir.{form}"
    path.write_bytes(pack(source, form))
    expected = bundle.digest(source)
    for reference in (str(path), f"file://{path}", f"{path}@{expected}"):
        assert bundle.fetch(reference, cache).digest == expected
    assert {child.name for child in tmp_path.iterdir()} == {"source", "cache", path.name}


def test_by_http(server, archive, source, cache):
    found = bundle.fetch(archive, cache)
    assert found.digest == bundle.digest(source)
    assert found.source == archive
    assert server.count["/sir.tar.gz"] == 1, "one download"


def test_by_any_url_of_fsspec(source, cache):
    fsspec.filesystem("memory").pipe_file("/models/sir.zip", pack(source, "zip"))
    assert bundle.fetch("memory://models/sir.zip", cache).digest == bundle.digest(source)


def test_a_url_is_asked_anew_unless_it_is_pinned(server, archive, tmp_path, source, cache):
    old = bundle.fetch(archive, cache)
    (source / "model" / "a.py").write_text("A = 2\n")
    (tmp_path / "www" / "sir.tar.gz").write_bytes(pack(source, "tar.gz"))
    new = bundle.fetch(archive, cache)
    assert new.digest == bundle.digest(source) != old.digest
    before = server.count.total()
    assert bundle.fetch(f"{archive}@{old.digest}", cache).path == old.path
    assert bundle.fetch(archive, cache, expected=old.digest).path == old.path
    assert server.count.total() == before, "what is pinned and there is not asked for"


def test_what_was_fetched_needs_no_network(server, archive, cache):
    found = bundle.fetch(archive, cache)
    server.shutdown()
    server.server_close()
    assert bundle.fetch(f"{archive}@{found.digest}", cache) == found
    assert bundle.fetch(found.digest, cache) == found


def test_another_tree_than_the_pinned_one_is_refused(archive, cache, source):
    other = "sha256:" + "0" * 64
    for reference, expected in ((f"{archive}@{other}", ""), (archive, other), (str(source), other)):
        with pytest.raises(
            FetchFailed, match=f"its tree has digest {bundle.digest(source)}, expected {other}"
        ):
            bundle.fetch(reference, cache, expected)
    assert list(cache.glob("*.json")) == [], "and not kept"


def test_a_changed_copy_is_fetched_again(server, archive, cache, caplog):
    found = bundle.fetch(archive, cache)
    (found.path / "model" / "a.py").write_text("A = 'torn")
    assert bundle.fetch(f"{archive}@{found.digest}", cache) == found
    assert (found.path / "model" / "a.py").read_text() == FILES["model/a.py"]
    assert server.count["/sir.tar.gz"] == 2
    assert caplog.text.count("its cached copy was changed (model/a.py) and is replaced") == 1


def test_of_fifty_processes_one_downloads(server, archive, source, cache):
    pinned = f"{archive}@{bundle.digest(source)}"
    found = race_helpers.at_once(50, bundle.fetch, pinned, cache)
    assert {one.digest for one in found} == {bundle.digest(source)}
    assert server.count["/sir.tar.gz"] == 1
    assert list((cache / "new").iterdir()) == []


def test_of_fifty_threads_one_downloads(server, archive, source, cache):
    pinned, gate = f"{archive}@{bundle.digest(source)}", threading.Barrier(50)

    def fetch(_):
        gate.wait()
        return bundle.fetch(pinned, cache)

    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(fetch, range(50)))
    assert len(set(found)) == 1
    assert server.count["/sir.tar.gz"] == 1


def test_what_a_killed_process_began_is_removed_by_the_next(archive, source, cache):
    def half_done():
        (left,) = (path for path in (cache / "new").iterdir() if path.is_dir())
        assert (left / "tree" / "wire.py").exists()

    race_helpers.killed_in(race_helpers.hang_in_fetch, archive, cache, then=half_done)
    assert bundle.fetch(archive, cache).digest == bundle.digest(source)
    assert list((cache / "new").iterdir()) == []


PROBLEMS = {
    "missing": ("{url}no.zip", "the file does not exist"),
    "refused": ("{url}status/403?sig=" + SECRET, "403"),
    "failing": ("{url}status/500", "500"),
    "short": ("{url}short", "payload"),
    "a page": ("{url}", "the archive is incomplete or damaged"),
    "nobody": ("http://127.0.0.1:9/sir.zip", "127.0.0.1:9"),
    "unknown protocol": ("nothing://sir.zip", "[Pp]rotocol"),
    "nothing in memory": ("memory://no.zip", "the file does not exist"),
    "no file": ("{tmp}/no.zip", "no such folder or archive on this machine"),
    "no digest here": ("sir@sha256:" + "0" * 64, "missing or changed in .*cache"),
}


@pytest.mark.parametrize(("reference", "said"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problems_are_told_without_secrets(server, tmp_path, cache, caplog, capfd, reference, said):
    with caplog.at_level(logging.DEBUG), pytest.raises(FetchFailed, match=said) as failed:
        bundle.fetch(reference.format(url=server.url, tmp=tmp_path), cache)
    assert str(failed.value).count("\n") == 0
    for text in (str(failed.value), *capfd.readouterr()):
        assert SECRET not in text
    assert not list(cache.glob("new/*"))


def test_a_download_ends_at_the_limit(server, tmp_path, cache, monkeypatch):
    monkeypatch.setattr("modelops_dask.bundle.archive.MAX_BYTES", 1_000_000)
    (tmp_path / "www" / "big.zip").write_bytes(bytes(50_000_000))
    with pytest.raises(FetchFailed, match="more than 1,000,000 bytes"):
        bundle.fetch(f"{server.url}big.zip", cache)


def test_a_cache_that_cannot_be_written_is_a_failure(tmp_path, source):
    (tmp_path / "file").touch()
    with pytest.raises(FetchFailed, match=r"file.*: (Not a directory|File exists)"):
        bundle.fetch(str(source), tmp_path / "file")


def test_a_file_grows_while_others_wait(cache, source, monkeypatch):
    """A copy that is being made is not seen before it is whole."""
    began, go_on = threading.Event(), threading.Event()
    copy = bundle.cache._copy

    def slowly(*arguments):
        began.set()
        assert go_on.wait(60)
        copy(*arguments)

    monkeypatch.setattr(bundle.cache, "_copy", slowly)
    digest = bundle.digest(source)
    first = threading.Thread(target=bundle.fetch, args=(str(source), cache))
    first.start()
    assert began.wait(60)
    with pytest.raises(FetchFailed):
        bundle.fetch(digest, cache)
    go_on.set()
    first.join()
    wait_for(lambda: bundle.fetch(digest, cache), "bundle")
