"""A real OCI registry (CNCF Distribution, `make tools`) on a free port of this machine, and pushing to it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from oras.provider import Registry

from helpers import wait_for

ROOT = Path(__file__).resolve().parents[1]
USER, PASSWORD = "sir", "hunter2"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n"


@dataclass(frozen=True)
class Running:
    host: str
    log: Path
    storage: Path

    def blobs_read(self) -> int:
        """How many blobs were asked for so far."""
        return len(re.findall(r'"GET /v2/\S+/blobs/', self.log.read_text()))


@contextmanager
def registry(
    folder: Path, *, password: bool = False, auth: dict[str, Any] | None = None
) -> Iterator[Running]:
    """A registry whose files are in a new folder; with `password` it knows USER alone, with `auth` whom that
    section of its configuration says.
    """
    program = shutil.which("registry", path=f"{ROOT}/.tools/bin{os.pathsep}{os.environ.get('PATH', '')}")
    assert program, "registry is missing; run: make tools"
    folder.mkdir()
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": "127.0.0.1:0"},
    }
    if password:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if auth:
        config["auth"] = auth
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=written, stderr=subprocess.STDOUT
        )
    try:
        port = wait_for(lambda: re.search(r"listening on 127.0.0.1:(\d+)", log.read_text()), "registry")[1]
        yield Running(f"127.0.0.1:{port}", log, folder / "storage")
    finally:
        process.terminate()
        process.wait()


def client(kind: str = "") -> Registry:
    """oras; as USER where kind, basic or token, is how the registry lets people in."""
    made = Registry(insecure=True, auth_backend=kind or "token")
    if kind:
        made.auth.set_basic_auth(USER, PASSWORD)
    return made


def push(target: str, files: dict[str, Path], *, kind: str = "", **more) -> str:
    """Push an artifact of a layer per file, titled by its path in the bundle; the manifest's digest."""
    titles = {str(path): {"org.opencontainers.image.title": title} for title, path in files.items()}
    with TemporaryDirectory() as scratch:
        notes = Path(scratch) / "annotations.json"
        notes.write_text(json.dumps(titles))
        answer = client(kind).push(
            target=target,
            files=[str(path) for path in files.values()],
            annotation_file=str(notes),
            disable_path_validation=True,
            **more,
        )
    return answer.headers["Docker-Content-Digest"]


def files_of(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
