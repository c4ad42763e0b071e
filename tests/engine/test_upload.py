"""The program that keeps a bundle in a store runs by its name, and by its source in older images."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixture_helpers import v010_code
from modelops_dask.pod import upload
from modelops_dask.store import bundles
from modelops_dask.store.files import Store

DIGEST = "sha256:" + "ab" * 32
ARCHIVE = bytes(range(256)) * 5000  # several reads of a pipe
# What `study submit` of 0.1.0 sends to the pods of any release.
PROGRAM_OF_0_1_0 = """
import sys
from modelops_dask.errors import MopsError
from modelops_dask.store.bundles import keep
from modelops_dask.store.files import Files
data = sys.stdin.buffer.read()
try:
    keep(Files(sys.argv[1]), sys.argv[2], data)
except MopsError as error:
    sys.exit(str(error))
"""
# What an image of 0.1.0 has of the names that the program imports.
NAMES_OF_0_1_0 = {
    "sys",
    "modelops_dask.errors.MopsError",
    "modelops_dask.store.bundles.keep",
    "modelops_dask.store.files.Files",
}
WAYS = {
    "by name": ["-m", "modelops_dask.pod.upload"],
    "by source": ["-c", inspect.getsource(upload)],
    "of 0.1.0": ["-c", PROGRAM_OF_0_1_0],
}


def run(way: str, *arguments: str, code: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *WAYS[way], *arguments]
    environment = {**os.environ, "PYTHONPATH": str(code)} if code else None
    return subprocess.run(command, input=ARCHIVE, capture_output=True, timeout=60, env=environment)


@pytest.mark.parametrize("way", WAYS)
def test_a_bundle_is_kept_once(tmp_path, way):
    for _ in range(2):
        process = run(way, str(tmp_path), DIGEST)
        assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
    (path,) = (tmp_path / bundles.FOLDER).iterdir()
    assert path.read_bytes() == ARCHIVE
    assert bundles.find_bundle(Store(str(tmp_path)), DIGEST) == str(path)


def test_an_image_of_0_1_0_runs_the_source(tmp_path):
    code = v010_code(tmp_path / "code") / "engine"
    assert run("by name", str(tmp_path), DIGEST, code=code).returncode != 0, "it has no such module"
    process = run("by source", str(tmp_path), DIGEST, code=code)
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
    assert bundles.find_bundle(Store(str(tmp_path)), DIGEST)


@pytest.mark.parametrize("way", WAYS)
def test_a_store_that_cannot_be_written_is_a_message(tmp_path, way):
    file = tmp_path / "file"
    file.touch()
    process = run(way, str(file), DIGEST)
    assert process.returncode == 1
    assert b"Traceback" not in process.stderr and str(file).encode() in process.stderr


def test_the_program_stands_alone():
    """It imports nothing that an image of 0.1.0 lacks."""
    imported = set()
    for node in ast.walk(ast.parse(Path(upload.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert imported == NAMES_OF_0_1_0
