"""What Dask spills lands on scratch, and a pod can write nowhere else."""

import json

from chart.rendering import stated
from e2e.cluster import CI_VALUES

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

with Client("tcp://study-scheduler:8786", timeout=60) as client:
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


def test_spilled_bytes_land_on_scratch(release, tmp_path):
    _, values = stated(MEMORY | PROCESSES, tmp_path / "spill.yaml")
    with release("study", CI_VALUES, values) as installed:
        returned, folder, results, written_bytes = installed.python(SPILL).split()
        worker = ("exec", "deploy/study-worker", "--")
        mounts = installed.kubectl(*worker, "cat", "/proc/mounts")
        writable = json.loads(installed.kubectl(*worker, "python", "-c", WRITE))
    assert int(returned) == 600_000_000, "every result is there, spilled or not"
    assert folder.startswith("/tmp/")
    assert int(results) >= 10
    assert int(written_bytes) >= int(results) * 20_000_000
    assert "/tmp" in [line.split()[1] for line in mounts.splitlines()], "a volume of its own"
    assert writable == ["/tmp", "/tmp", "/tmp"], "home and the working directory among them"
