"""Object stores on loopback for tests: real servers, and a proxy that misbehaves as some do.

Each server is a context manager that gives its address; its bucket BUCKET is empty. The proxy passes requests
on to a server and errs by a Fault: what it does to one request, or None.
"""

import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from helpers import wait_for

ROOT = Path(__file__).resolve().parents[1]
BUCKET = "studies"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see"}
REGION = "us-east-1"


def create_bucket(address: str) -> None:
    import boto3

    boto3.client(
        "s3",
        endpoint_url=address,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket=BUCKET)


@contextmanager
def moto(folder: Path) -> Iterator[str]:  # noqa: ARG001
    """moto's server, in this process and its memory."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    create_bucket(address)
    yield address
    server.stop()


@contextmanager
def versitygw(folder: Path) -> Iterator[str]:
    """Versity S3 Gateway before a folder; its 412 lacks <Condition>."""
    (folder / "data").mkdir()
    keys = {
        "ROOT_ACCESS_KEY": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    }
    with _server(
        "versitygw", ["--quiet", "--port", "{host}:{port}", "posix", str(folder / "data")], folder, keys
    ) as address:
        yield address


@contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """`rclone serve s3` before a folder."""
    (folder / "data").mkdir()
    keys = ",".join(CREDENTIALS.values())
    words = ["serve", "s3", "--addr", "{host}:{port}", "--auth-key", keys, str(folder / "data")]
    with _server("rclone", words, folder, {"RCLONE_CONFIG": os.devnull}) as address:
        yield address


@contextmanager
def s3s_fs(folder: Path) -> Iterator[str]:
    """s3s-fs before a folder."""
    (folder / "data").mkdir()
    access, secret = CREDENTIALS.values()
    words = ["--host", "{host}", "--port", "{port}", "--access-key", access, "--secret-key", secret]
    with _server("s3s-fs", [*words, str(folder / "data")], folder, {}) as address:
        yield address


def find_program(name: str) -> str | None:
    """The path of a server's program, of .tools/bin or PATH; None when it is not there."""
    return shutil.which(name, path=f"{ROOT}/.tools/bin{os.pathsep}{os.environ.get('PATH', '')}")


@contextmanager
def _server(name: str, words: Sequence[str], folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """A program of .tools/bin on a free port, with a bucket."""
    program = find_program(name)
    assert program, f"{name} is missing; run: make tools"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, *(word.format(host="127.0.0.1", port=port) for word in words)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **variables}, cwd=folder
        )
    try:
        wait_for(lambda: process.poll() is not None or _listens(port), f"{name} on port {port}", 60)
        assert process.poll() is None, (folder / "log").read_text()
        create_bucket(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def reached(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new folder in the bucket, with the variables by which any process reaches the server."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": address, "AWS_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # one may have been made of other variables
    yield f"s3://{BUCKET}/{uuid.uuid4().hex}"
    fsspec.get_filesystem_class("s3").clear_instance_cache()


SERVERS = {"moto": moto, "versitygw": versitygw, "rclone": rclone, "s3s-fs": s3s_fs}


@dataclass(frozen=True)
class Request:
    """A request to the proxy: `count` is which one of its method and path it is, from 1."""

    method: str
    path: str
    conditional: bool  # has If-None-Match
    count: int


Answer = tuple[int, str] | None  # status and code of S3; None: the connection is cut


@dataclass(frozen=True)
class Fault:
    """What becomes of one request. `applied`: it is passed on, at once or, with `later_seconds`, when the
    answer was given; else the server never sees it. `answer` is then sent in the place of the server's.
    """

    applied: bool
    answer: Answer
    later_seconds: float = 0.0


Rule = Callable[[Request], Fault | None]


def conditional_put(fault: Fault, times: int = 1) -> Rule:
    """That fault for the first conditional PUTs of every path."""
    return lambda request: fault if request.conditional and request.count <= times else None


class Proxy:
    """An S3 server at `address` that passes requests on to another.

    `rule` says what becomes of each request. `bare_412` takes <Condition> from a 412, as MinIO's has none;
    `ignores_condition` takes If-None-Match from requests, as servers do that do not know it.
    """

    def __init__(
        self,
        backend: str,
        rule: Rule = lambda _: None,
        *,
        bare_412: bool = False,
        ignores_condition: bool = False,
    ) -> None:
        self.rule, self.bare_412, self.ignores_condition = rule, bare_412, ignores_condition
        self.requests: Counter[str] = Counter()  # by method
        self.counts: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()
        self._backend = urlsplit(backend).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def request(self, method: str, path: str, conditional: bool) -> Request:
        with self.lock:
            self.requests[method] += 1
            self.counts[method, path] += 1
            return Request(method, path, conditional, self.counts[method, path])

    def passed_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of the server's answer."""
        connection = http.client.HTTPConnection(self._backend, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            data = response.read()
            if self.bare_412 and response.status == 412:
                data = re.sub(rb"<Condition>.*?</Condition>", b"", data)
            return response.status, response.getheaders(), data
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self
        dropped = {"content-length", "transfer-encoding", "expect", "connection"}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                body = self.body()
                request = proxy.request(self.command, self.path, "If-None-Match" in self.headers)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
                if proxy.ignores_condition:
                    headers.pop("If-None-Match", None)
                call = (self.command, self.path, headers, body)
                fault = proxy.rule(request)
                if fault is None:
                    self.send(*proxy.passed_on(*call))
                    return
                if fault.applied and not fault.later_seconds:
                    proxy.passed_on(*call)
                if fault.applied and fault.later_seconds:
                    threading.Timer(fault.later_seconds, proxy.passed_on, call).start()
                if fault.answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, code = fault.answer
                text = f"<Error><Code>{code}</Code><Message>by the proxy</Message></Error>"
                self.send(status, [("Content-Type", "application/xml")], text.encode())

            def body(self) -> bytes:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                data = b""
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def send(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
                self.send_response_only(status)
                length = str(len(data))
                for name, value in headers:
                    if name.lower() == "content-length" and self.command == "HEAD":
                        length = value
                    elif name.lower() not in dropped:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        return Handler
