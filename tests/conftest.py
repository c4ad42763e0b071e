"""Ctrl-C as in a terminal, and the stores that tests run on: a folder, fsspec's memory file system, S3
by moto's server on loopback.
"""

import logging
import signal
import uuid

import fsspec
import pytest

from modelops_dask.store.files import Files

# A shell that runs the tests in the background has them, and so the commands they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BUCKET = "studies"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see"}


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server that lasts as long as the tests, with an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    ).create_bucket(Bucket=BUCKET)
    yield address
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The URL of a folder of its own in a bucket; variables by which this process and others reach it."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_server, "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    yield f"s3://{BUCKET}/{uuid.uuid4().hex}"
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # a test may have made one of other variables


@pytest.fixture(params=["folder", "memory", "s3"])
def files(request, tmp_path):
    """An empty store, of each kind."""
    if request.param == "s3":
        return Files(request.getfixturevalue("s3"))
    return Files(str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")
