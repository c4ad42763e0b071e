"""What earlier versions made, from tests/fixtures, and their code, from the history of the repository."""

import base64
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from modelops_dask.store.files import Store

REPOSITORY = Path(__file__).parents[1]
V010 = REPOSITORY / "tests" / "fixtures" / "v0.1.0"
V010_COMMIT = "f55c888"


def restore(name: str, files: Store) -> dict[str, bytes]:
    """Put the store `store-NAME.json` into an empty store, and return its files: name -> content."""
    listed = json.loads((V010 / f"store-{name}.json").read_text())
    contents = {path: base64.b64decode(text) for path, text in listed.items()}
    for path, content in contents.items():
        files.put(path, content)
    return contents


def v010_code(folder: Path) -> Path:
    """The packages of mops-helm 0.1.0 in a folder, for PYTHONPATH; skips where the history is not there."""
    folders = ("engine", "cli", "charts", "values", "schemas")
    done = subprocess.run(["git", "-C", REPOSITORY, "archive", V010_COMMIT, *folders], capture_output=True)
    if done.returncode:
        pytest.skip(f"the history does not have {V010_COMMIT}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder
