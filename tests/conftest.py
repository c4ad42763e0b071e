"""Ctrl-C as in a terminal, and the stores that tests run on: a folder, fsspec's memory file system, S3
by moto's server on loopback.
"""

import signal
import uuid

import pytest

import store_servers
from modelops_dask.store.files import Store

# A shell that runs the tests in the background has them, and so the commands they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """The address of an S3 server that lasts as long as the tests, with an empty bucket."""
    with store_servers.moto(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The URL of a folder of its own in a bucket; variables by which this process and others reach it."""
    with store_servers.reached(s3_server, monkeypatch) as url:
        yield url


@pytest.fixture(params=["folder", "memory", "s3"])
def files(request, tmp_path):
    """An empty store, of each kind."""
    if request.param == "s3":
        return Store(request.getfixturevalue("s3"))
    return Store(str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")
