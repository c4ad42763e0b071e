"""A worker pod from inside: where it can write, where Dask spills, what becomes of orphans."""

import json

import pytest

from chart.rendering import stated
from e2e.cluster import CI_VALUES, eventually, install

MEMORY = {"dask": {"config": {"distributed": {"worker": {"memory": {"target": 0.4, "spill": 0.5}}}}}}
PROCESSES = {"workers": {"processes": 1}}

# 600 MB of results that no compression shrinks, in a process of 640Mi that keeps 40 % of them in memory.
SPILL = """
import os
from distributed import Client

def spilled(dask_worker):
    root = dask_worker.local_directory
    files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    return root, len(dask_worker.data.disk), sum(map(os.path.getsize, files))

with Client("tcp://study-scheduler:8786", timeout=120) as client:
    results = client.map(lambda number: os.urandom(20_000_000), range(30))
    print(sum(client.gather(client.map(len, results))))
    (found,) = client.run(spilled).values()
    print(*found)
"""

WRITE = """
import json, os

def writable(path):
    try:
        with open(f"{path}/probe", "w"):
            return True
    except OSError:
        return False

paths = ["", "/etc/dask", "/home", "/opt/modelops", "/var/tmp", "/tmp", os.path.expanduser("~"), os.getcwd()]
print(json.dumps([path for path in paths if writable(path)]))
"""


# A process that ends before its child does, three times.
LEAVE_ORPHANS = """
import os
for _ in range(3):
    if os.fork() == 0:
        os.fork()
        os._exit(0)
    os.wait()
"""
ORPHANS = """
from pathlib import Path
stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
print(sum(state == "Z" and parent == "1" for state, parent, *_ in stats))
"""


@pytest.fixture(scope="module")
def installed(namespace, tmp_path_factory):
    _, values = stated(MEMORY | PROCESSES, tmp_path_factory.mktemp("values") / "spill.yaml")
    with install("study", namespace, CI_VALUES, values) as release:
        yield release


def in_worker(installed, *command: str) -> str:
    return installed.kubectl("exec", "deploy/study-worker", "--", *command)


@pytest.mark.ci
def test_spilled_bytes_land_on_scratch(installed):
    returned, folder, results, written_bytes = installed.python(SPILL).split()
    assert int(returned) == 600_000_000, "every result is there, spilled or not"
    assert folder.startswith("/tmp/")
    assert int(results) >= 10
    assert int(written_bytes) >= int(results) * 20_000_000


@pytest.mark.ci
def test_a_pod_can_write_to_scratch_alone(installed):
    mounts = in_worker(installed, "cat", "/proc/mounts")
    assert "/tmp" in [line.split()[1] for line in mounts.splitlines()], "a volume of its own"
    writable = json.loads(in_worker(installed, "python", "-c", WRITE))
    assert writable == ["/tmp", "/tmp", "/tmp"], "home and the working directory among them"


@pytest.mark.ci
def test_orphans_are_collected(installed):
    in_worker(installed, "python", "-c", LEAVE_ORPHANS)
    eventually(lambda: int(in_worker(installed, "python", "-c", ORPHANS)) == 0, "end of the zombies")
