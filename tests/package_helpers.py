"""Wheels and package indexes on this machine, so that tests of environments need no network."""

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    requires: Sequence[str] = (),
    content: bytes = b"",
    script: str = "",
) -> Path:
    """A package of one module, which has VERSION, and `content` after it.

    A script has the name of its function.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    files = {
        f"{name}.py": f"VERSION = {version!r}\n".encode() + content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {name}:{script}\n".encode()
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        for path, data in files.items()
    }
    record = "".join(f"{path},sha256={digests[path]},{len(data)}\n" for path, data in files.items())
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in {**files, f"{info}/RECORD": (record + f"{info}/RECORD,,\n").encode()}.items():
            archive.writestr(zipfile.ZipInfo(path), data)  # the same bytes at any time
    return wheel


def write_index(www: Path, *wheels: Path) -> None:
    """The pages of an index of wheels that lie in www/files; they replace those of the same packages."""
    pages: dict[str, str] = {}
    for wheel in wheels:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        name = wheel.name.partition("-")[0]
        link = f'<a href="../../files/{wheel.name}#sha256={digest}">{wheel.name}</a>'
        pages[name] = pages.get(name, "") + link
    for name, page in pages.items():
        folder = www / "simple" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(page)


class Index(SimpleHTTPRequestHandler):
    def end_headers(self):
        self.send_header("Cache-Control", "max-age=0")  # so that uv asks again, as it does after a while
        super().end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def serve(www: Path) -> Iterator[ThreadingHTTPServer]:
    """Serve a folder on this machine; an index is at /simple."""
    handler = partial(Index, directory=www)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http
        http.shutdown()
