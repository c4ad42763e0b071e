"""A cgroup with a limit on memory or on processes, for processes of a test."""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from helpers import wait_for
from modelops_dask.limits import cgroup, pod

JOIN = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execvp(sys.argv[2], sys.argv[2:])"


def cgroup_of_memory(limit_bytes: int) -> AbstractContextManager[list[str]]:
    """The beginning of a command line that runs the rest in a new cgroup inside of our own."""
    return _cgroup("memory", {1: "memory.limit_in_bytes", 2: "memory.max"}, limit_bytes)


def cgroup_of_processes(most: int) -> AbstractContextManager[list[str]]:
    """As cgroup_of_memory, with a limit on processes and threads."""
    return _cgroup("pids", {1: "pids.max", 2: "pids.max"}, most)


@contextmanager
def _cgroup(controller: str, names: dict[int, str], limit: int) -> Iterator[list[str]]:
    version, levels = cgroup.find_levels(Path("/"), controller)
    folder = levels[0] / f"modelops-test-{uuid.uuid4().hex[:8]}" if levels else Path()
    try:
        folder.mkdir()
        (folder / names[version]).write_text(str(limit))
    except (OSError, KeyError) as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no cgroup of {controller} can be made here: {error!r}")
    try:
        yield [sys.executable, "-c", JOIN, str(folder / "cgroup.procs")]
    finally:
        # What died in it may take a moment to leave.
        wait_for(lambda: _removed(folder), "end of the cgroup")


def _removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def tree(root, own, mounts, files, total_mib=8192, available_mib=6144):
    """A root folder as the kernel would show it to a process."""
    meminfo = f"MemTotal: {total_mib * 1024} kB\nMemFree: 1 kB\nMemAvailable: {available_mib * 1024} kB\n"
    mountinfo = "".join(
        f"{30 + i} 23 0:{i} {inside} {where} rw,nosuid shared:9 - {kind} {kind} {options}\n"
        for i, (inside, where, kind, options) in enumerate(mounts)
    )
    shown = {"proc/self/cgroup": own, "proc/self/mountinfo": mountinfo, "proc/meminfo": meminfo, **files}
    for name, text in shown.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))
    return root


V1 = [("/", "/sys/fs/cgroup/cpu", "cgroup", "rw,cpu"), ("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory")]
V2 = [("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate")]


class MemoryOfRunners:
    """In the place of cgroup.Memory: a limit that only the runners of this test count against."""

    version = 1

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes

    def used_bytes(self) -> int:
        return sum(pod.held_bytes(pid) for pids in pod.find_marked().values() for pid in pids)

    def files_bytes(self) -> int:
        return 0

    def oom_kills(self) -> int:
        return 0


@pytest.fixture
def own_pod(monkeypatch):
    """This process is a pod: others that test at the same time have the same parent."""
    monkeypatch.setattr(pod, "POD", os.getpid())
