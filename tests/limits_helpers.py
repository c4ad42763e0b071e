"""A cgroup with a limit on memory, for processes of a test."""

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from helpers import wait_for
from modelops_dask.limits import cgroup

JOIN = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execvp(sys.argv[2], sys.argv[2:])"


@contextmanager
def cgroup_of_memory(limit_bytes: int) -> Iterator[list[str]]:
    """The beginning of a command line that runs the rest in a new cgroup inside of our own."""
    version, levels = cgroup._levels(Path("/"))
    name = {1: "memory.limit_in_bytes", 2: "memory.max"}.get(version)
    folder = levels[0] / f"modelops-test-{uuid.uuid4().hex[:8]}" if levels else Path()
    try:
        folder.mkdir()
        (folder / name).write_text(str(limit_bytes))
    except (OSError, TypeError) as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no cgroup of memory can be made here: {error!r}")
    try:
        yield [sys.executable, "-c", JOIN, str(folder / "cgroup.procs")]
    finally:
        # What died in it may take a moment to leave.
        wait_for(lambda: _removed(folder), "end of the cgroup")


def _removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()
