"""Threads of native code: a task has as many as it owns, and all together no more than their process."""

import json
import shutil
import struct
import subprocess

import pytest

from executor_helpers import write_bundle
from modelops_dask.errors import BadInput
from modelops_dask.plan.spec import load
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from study_helpers import mops_helm

CC = shutil.which("cc")

# Counts in a file that all processes map: threads that run now, and the most that ever did.
LIBRARY = r"""
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int *counts;

static void *work(void *nothing) {
    int running = __atomic_add_fetch(&counts[0], 1, __ATOMIC_SEQ_CST), most = counts[1];
    while (running > most && !__atomic_compare_exchange_n(&counts[1], &most, running, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < 30);
    __atomic_sub_fetch(&counts[0], 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int run(const char *path) {
    int file = open(path, O_RDWR), n = atoi(getenv("OMP_NUM_THREADS"));
    counts = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    pthread_t threads[64];
    for (int i = 0; i < n; i++) pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    munmap(counts, 8);
    return n;
}
"""  # noqa: E501

SMALL = ["--set", "workers.replicas=1,workers.threads=3,executor.environment=image"]
WIRE = """
import ctypes, os

def wire(entrypoint, params, seed):
    n = ctypes.CDLL(params["library"]).run(params["counts"].encode())
    names = [name for name in os.environ if name.endswith("_NUM_THREADS") or name == "VECLIB_MAXIMUM_THREADS"]
    return {"threads": str(n), "variables": repr({os.environ[name] for name in names})}
"""


def write_study(folder, **more):
    write_bundle(folder / "bundle", {"wire.py": WIRE})
    fixed = {"library": str(folder / "library.so"), "counts": str(folder / "counts")}
    study = {
        "name": "native",
        "entrypoint": "native.wire/any",
        "bundle": str(folder / "bundle"),
        "fixed": fixed,
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps({**study, "grid": {"x": list(range(12))}, **more}))
    return path


@pytest.mark.skipif(not CC, reason="no C compiler")
@pytest.mark.parametrize(
    ("resources", "flags", "threads"),
    [
        (
            {"process": 1},
            ["--preset", "external-threads", "--set", "workers.replicas=1,workers.threads=3"],
            3,
        ),
        ({}, ["--set", "workers.replicas=1,workers.processes=1,workers.threads=3"], 1),
    ],
    ids=["whole-process", "one-thread"],
)
def test_never_more_threads_than_the_process_owns(tmp_path, resources, flags, threads):
    (tmp_path / "library.c").write_text(LIBRARY)
    build = [CC, "-O1", "-shared", "-fPIC", "-pthread", "library.c", "-o", "library.so"]
    subprocess.run(build, cwd=tmp_path, check=True)
    (tmp_path / "counts").write_bytes(bytes(8))
    spec = write_study(tmp_path, resources=resources)
    done = mops_helm("study", "run", spec, *flags, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    running, most = struct.unpack("ii", (tmp_path / "counts").read_bytes())
    assert running == 0
    assert threads <= most <= 3, "the worker process has three"
    files = Store(str(tmp_path / "out" / "native"))
    for name in files.list(parts.FOLDER):
        with parts.open_part_file(files, name) as part:
            for row in part.read().to_pylist():
                assert row["threads"] == threads
                outputs = dict(row["outputs"])
                assert (outputs["threads"], outputs["variables"]) == (b"%d" % threads, b"{'%d'}" % threads)


def test_resources_that_no_worker_has_are_refused(tmp_path):
    spec = write_study(tmp_path, resources={"process": 1, "gpu": 0.5})
    done = mops_helm("study", "run", spec, "--set", "workers.replicas=1,workers.processes=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "workers with gpu=0.5 process=1" in done.stderr and "Traceback" not in done.stderr
    assert "daskResources" in done.stderr


@pytest.mark.parametrize("amount", ["0", "-1", ".inf", "true", "some"])
def test_an_amount_that_means_nothing(tmp_path, amount):
    spec = tmp_path / "study.yaml"
    spec.write_text(f"model: m.s\nscenario: a\nresources:\n  process: {amount}\nsets: [{{a: 1}}]\n")
    with pytest.raises(BadInput, match=r"study.yaml:4:12  RANGE  process is"):
        load(spec)
