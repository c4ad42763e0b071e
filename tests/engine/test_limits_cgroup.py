"""Which limit on memory counts, and what is used of it: made-up trees of files, and a real cgroup."""

import subprocess
import sys

import pytest

from limits_helpers import V1, V2, cgroup_of_memory, tree
from modelops_dask.limits import cgroup

MIB = 1024 * 1024
UNLIMITED = 9223372036854771712


def v1(path, limit, used=0, statistics="", kills=0):
    folder = f"sys/fs/cgroup/memory{path}"
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": statistics,
        f"{folder}/memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
    }


def v2(path, limit, used=0, statistics="", kills=0):
    folder = f"sys/fs/cgroup{path}"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": statistics,
        f"{folder}/memory.events": f"low 0\nhigh 0\nmax 7\noom 3\noom_kill {kills}\noom_group_kill 0\n",
    }


def test_in_a_container_with_version_2(tmp_path):
    statistics = "anon 1\nactive_file 10485760\ninactive_file 20971520\nslab_reclaimable 1048576\nshmem 5\n"
    root = tree(tmp_path, "0::/\n", V2, v2("", 4096 * MIB, 1000 * MIB, statistics, kills=2))
    memory = cgroup.memory(root)
    assert (memory.version, memory.limit_bytes) == (2, 4096 * MIB)
    assert memory.used_bytes() == (1000 - 10 - 20 - 1) * MIB
    assert memory.files_bytes() == 5
    assert memory.oom_kills() == 2


def test_in_a_container_with_version_1(tmp_path):
    statistics = "inactive_file 1\nshmem 99\ntotal_active_file 10485760\ntotal_inactive_file 20971520\n"
    root = tree(
        tmp_path,
        "4:memory:/\n1:cpu,cpuacct:/\n0::/\n",
        V1,
        v1("", 4096 * MIB, 1000 * MIB, statistics, kills=2),
    )
    memory = cgroup.memory(root)
    assert (memory.version, memory.limit_bytes) == (1, 4096 * MIB)
    assert memory.used_bytes() == (1000 - 10 - 20) * MIB
    assert memory.oom_kills() == 2


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_limit_on_the_way_up_counts(tmp_path, version):
    """A process in /slice/job/step: the job has 2 GiB, its step none, the slice more."""
    make, own = (v1, "7:memory:/slice/job/step\n") if version == 1 else (v2, "0::/slice/job/step\n")
    none = UNLIMITED if version == 1 else "max"
    files = (
        make("/slice/job/step", none, used=5, kills=1)
        | make("/slice/job", 2048 * MIB, used=700 * MIB)
        | make("/slice", 3000 * MIB, used=2900 * MIB)
    )
    memory = cgroup.memory(tree(tmp_path, own, V1 if version == 1 else V2, files))
    assert memory.limit_bytes == 2048 * MIB
    assert memory.used_bytes() == 700 * MIB, "everything that counts against that limit"
    assert memory.oom_kills() == 1, "only our own processes"


def test_a_mount_that_begins_at_the_container_while_the_path_is_the_hosts(tmp_path):
    mounts = [("/kubepods/pod1/c1", "/sys/fs/cgroup/memory", "cgroup", "rw,memory")]
    root = tree(tmp_path, "4:memory:/kubepods/pod1/c1\n", mounts, v1("", 512 * MIB, 9))
    assert cgroup.memory(root).limit_bytes == 512 * MIB


def test_a_path_outside_of_what_is_mounted(tmp_path):
    root = tree(tmp_path, "0::/../../other\n", V2, v2("", 512 * MIB))
    assert cgroup.memory(root).limit_bytes == 512 * MIB


def test_both_versions_mounted_memory_in_the_first(tmp_path):
    mounts = [*V1, ("/", "/sys/fs/cgroup/unified", "cgroup2", "rw")]
    root = tree(tmp_path, "4:memory:/a\n0::/a\n", mounts, v1("/a", 512 * MIB))
    assert (cgroup.memory(root).version, cgroup.memory(root).limit_bytes) == (1, 512 * MIB)


@pytest.mark.parametrize(
    ("own", "mounts", "files"),
    [
        ("0::/session\n", V2, v2("/session", "max")),
        ("4:memory:/\n", V1, v1("", UNLIMITED)),
        ("0::/\n", V2, v2("", 9000 * MIB)),  # more than the machine has
        ("0::/\n", [], {}),
        ("", [], {}),
    ],
)
def test_without_a_limit_the_machine_counts(tmp_path, own, mounts, files):
    memory = cgroup.memory(tree(tmp_path, own, mounts, files))
    assert (memory.version, memory.limit_bytes) == (0, 8192 * MIB)
    assert memory.used_bytes() == 2048 * MIB
    assert memory.oom_kills() == 0


def test_a_real_cgroup(tmp_path):
    """Used memory follows what a process takes, and what it writes to a disk is not counted."""
    script = """
import os, sys, tempfile
from modelops_dask.limits import cgroup
memory = cgroup.memory()
before = memory.used_bytes()
taken = bytearray(b"x") * (100 << 20)
after = memory.used_bytes()
with tempfile.NamedTemporaryFile(dir=sys.argv[1]) as file:
    file.write(taken)
    file.flush()
    os.fsync(file.fileno())
    cached = memory.used_bytes()
print(memory.version > 0, memory.limit_bytes >> 20, (after - before) >> 20, abs(cached - after) >> 20)
"""
    with cgroup_of_memory(600 * MIB) as join:
        said = subprocess.run(
            [*join, sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
        ).stdout.split()
        on = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True)
    assert said[:2] == ["True", "600"]
    assert 95 <= int(said[2]) <= 110
    assert int(said[3]) <= 10 or on.stdout.strip() == "tmpfs"
