"""How much memory this process may use together with its neighbours, and how much is in use.

/proc/self/cgroup, /proc/self/mountinfo -> the cgroups of our own path -> the smallest limit -> Memory

In a container this is the container's limit; in a login session, a CI job or a test it may belong to a parent
cgroup. Versions 1 and 2 of cgroups are supported; if no cgroup has a limit, the machine's memory counts.
Linux only. This module does not act: admission.py and guard.py do. It uses only the standard library and
Python 3.9's language, because shortage.py loads it by path where a model runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

MACHINE = Path("proc/meminfo")


@dataclass(frozen=True)
class _Version:
    """The names of files and of fields of memory.stat in a version of cgroups."""

    limit: str
    usage: str
    events: str
    reclaimable: tuple[str, ...]
    files_in_memory: str


_VERSIONS = {
    1: _Version(
        limit="memory.limit_in_bytes",
        usage="memory.usage_in_bytes",
        events="memory.oom_control",
        reclaimable=("total_active_file", "total_inactive_file"),
        files_in_memory="total_shmem",
    ),
    2: _Version(
        limit="memory.max",
        usage="memory.current",
        events="memory.events",
        reclaimable=("active_file", "inactive_file", "slab_reclaimable"),
        files_in_memory="shmem",
    ),
}


@dataclass(frozen=True)
class MemoryLimit:
    """A limit that applies to this process. `version` is of cgroups; 0: the machine's memory is the limit."""

    limit_bytes: int
    version: int
    limiting: Path  # the cgroup with the limit; /proc/meminfo for version 0
    own_folder: Path  # the cgroup of this process

    def used_bytes(self) -> int:
        """Bytes in use, without the file cache that the kernel can reclaim. Raises OSError.

        Recently used cache is also left out: a worker that reads a large file twice is not short of memory.
        Files in /dev/shm and other tmpfs count as used.
        """
        if not self.version:
            machine = _fields(self.limiting)
            return (machine["MemTotal:"] - machine["MemAvailable:"]) * 1024
        names = _VERSIONS[self.version]
        statistics = _fields(self.limiting / "memory.stat")
        used_bytes = int((self.limiting / names.usage).read_text())
        return max(0, used_bytes - sum(statistics.get(name, 0) for name in names.reclaimable))

    def files_bytes(self) -> int:
        """Bytes of files in memory (/dev/shm, other tmpfs) and of shared memory; 0 if not known. Raises
        OSError.
        """
        if not self.version:
            return 0
        return _fields(self.limiting / "memory.stat").get(_VERSIONS[self.version].files_in_memory, 0)

    def oom_kills(self) -> int:
        """The number of processes of our own cgroup that the kernel has killed for lack of memory; 0 if not
        known.
        """
        if not self.version:
            return 0
        try:
            return _fields(self.own_folder / _VERSIONS[self.version].events).get("oom_kill", 0)
        except OSError:
            return 0


def memory(root: Path = Path("/")) -> MemoryLimit:
    """The memory limit that applies to this process, read from files under `root`. Raises OSError if there is
    none.
    """
    total_bytes = _fields(root / MACHINE)["MemTotal:"] * 1024
    version, levels = find_levels(root)
    limits = [(limit, folder) for folder in levels if (limit := _limit(folder, version)) is not None]
    limit_bytes, limiting = min(limits, key=itemgetter(0), default=(total_bytes, root))
    if limit_bytes >= total_bytes:
        return MemoryLimit(total_bytes, 0, root / MACHINE, root)
    return MemoryLimit(limit_bytes, version, limiting, levels[0])


def find_levels(root: Path, controller: str = "memory") -> tuple[int, list[Path]]:
    """(version, folders of our own cgroup of a controller and its parents, the innermost first)."""
    cgroup_paths = {}
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            cgroup_paths[1] = path
        elif number == "0":
            cgroup_paths[2] = path
    for version, mount_root, mount in sorted(_mounts(root, controller)):
        if version not in cgroup_paths:
            continue
        # In a container the mount may begin at our own cgroup, while the path is still the host's.
        own_path = Path(cgroup_paths[version])
        relative_path = own_path.relative_to(mount_root) if own_path.is_relative_to(mount_root) else Path()
        folder = mount / relative_path
        if ".." in relative_path.parts or not folder.is_dir():
            folder = mount
        return version, [folder, *(above for above in folder.parents if above.is_relative_to(mount))]
    return 0, []


def _mounts(root: Path, controller: str) -> Iterator[tuple[int, str, Path]]:
    """(version, the mounted cgroup, its mount point) of each hierarchy that may have a controller."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")
        kind, _, options = filesystem.split(" ", 2)
        _, _, _, mount_root, mount_point, *_ = mount.split(" ")
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            yield 2 if kind == "cgroup2" else 1, mount_root, root / mount_point.lstrip("/")


def _limit(folder: Path, version: int) -> int | None:
    try:
        text = (folder / _VERSIONS[version].limit).read_text().strip()
    # the root of the hierarchy has no limit, and neither has version 2 if version 1 controls memory
    except OSError:
        return None
    return None if text == "max" else int(text)


def _fields(path: Path) -> dict[str, int]:
    """Lines with a name, a number and possibly a unit."""
    return {line.split()[0]: int(line.split()[1]) for line in path.read_text().splitlines() if line}
