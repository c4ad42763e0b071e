"""The limits on processes and threads of this pod and this user, and their numbers.

    pids.max of the cgroups of our own path, RLIMIT_NPROC (ulimit -u) -> limits() -> tightest() -> explain()

The kernel counts threads as processes. Kubernetes sets pids.max of a pod from the kubelet's podPidsLimit.
Linux only. This module uses only the standard library and Python 3.9's language, because shortage.py loads it
by path where a model runs.
"""

from __future__ import annotations

import os
import resource
import sys
from collections import namedtuple
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

if __package__:
    from modelops_dask.limits import cgroup
else:  # by path in shortage.py, which loads that module first
    cgroup = sys.modules["_modelops_cgroup"]


class ProcessLimit(namedtuple("ProcessLimit", "most used source")):
    """A limit on processes and threads together: the maximum, the current number, and the origin of the
    limit.
    """

    __slots__ = ()
    most: int
    used: int
    source: str

    @property
    def room(self) -> int:
        """How many more may start."""
        return max(0, self.most - self.used)


def limits(root: Path = Path("/")) -> list[ProcessLimit]:
    """All limits that apply to this process, read from files under `root` and from its resource limits."""
    return [*_of_cgroups(root), *_of_user(root)]


def tightest(root: Path = Path("/")) -> ProcessLimit | None:
    """The limit with the least room; None if there is none."""
    return min(limits(root), key=lambda limit: limit.room, default=None)


def room() -> int | None:
    """How many more processes and threads may start; None for any number."""
    limit = tightest()
    return None if limit is None else limit.room


def explain(problem: str) -> str:
    """A sentence on a process or thread that could not start, with advice; "" if there is no limit."""
    limit = tightest()
    if limit is None:
        return ""
    return (
        f"{problem}: {limit.source} allows {limit.most:,} processes and threads, of which {limit.used:,} "
        "exist. "
        "Use fewer workers.processes, workers.threads or native threads (OMP_NUM_THREADS and the like), "
        "start fewer in the model, or raise that limit (Kubernetes: podPidsLimit of the kubelet)"
    )


def _of_cgroups(root: Path) -> Iterator[ProcessLimit]:
    try:
        _, levels = cgroup.find_levels(root, "pids")
    except OSError:
        return
    for folder in levels:
        try:
            most, used = ((folder / name).read_text().strip() for name in ("pids.max", "pids.current"))
        except OSError:  # the root of the hierarchy has none
            continue
        if most != "max":
            yield ProcessLimit(int(most), int(used), f"pids.max of {folder}")


def _of_user(root: Path) -> Iterator[ProcessLimit]:
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if most >= 0 and os.getuid() != 0:  # -1: none; the kernel does not limit root
        yield ProcessLimit(most, _count_threads(root, os.getuid()), "ulimit -u")


def _count_threads(root: Path, user_id: int) -> int:
    """Count the threads of all processes of a user, including single-threaded ones."""
    count = 0
    for process in (root / "proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == user_id:
                count += int((process / "stat").read_text().rpartition(")")[2].split()[17])
        except OSError:  # it ended
            continue
    return count
