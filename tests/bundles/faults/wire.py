"""A model that does what models should not: `faults/NAME` calls the function NAME below."""
# ruff: noqa: ARG001

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

KEPT = []


def wire(entrypoint, params, seed):
    return globals()[entrypoint.rpartition("/")[2]](params, seed)


def ok(params, seed):
    return {"out": repr((params, seed)).encode()}


def echo(params, seed):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return {"out": b"done"}


def state(params, seed):
    """How many tasks ran in this process before."""
    KEPT.append(seed)
    return {"pid": str(os.getpid()).encode(), "before": str(len(KEPT) - 1).encode()}


def draw(params, seed):
    return {"out": repr([random.random() for _ in range(4)]).encode()}


def environment(params, seed):
    names = ("PYTHONHASHSEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONPATH")
    seen = {name: os.environ.get(name) for name in names}
    return {"out": repr(seen | {"cwd": str(Path.cwd()), "path": sys.path[:2], "python": sys.prefix}).encode()}


def raises(params, seed):
    print("about to fail")
    raise ValueError(f"seed {seed} is unlucky")


def raises_oddly(params, seed):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    raise Odd


def sys_exit(params, seed):
    sys.exit(3)


def os_exit(params, seed):
    print("leaving")
    os._exit(3)


def c_exit(params, seed):
    ctypes.CDLL(None).exit(5)


def crash(params, seed):
    ctypes.string_at(0)


def recurse(params, seed):
    return recurse(params, seed)


def not_bytes(params, seed):
    return {"table": [1, 2, 3]}


def returns_nothing(params, seed):
    pass


def prints_much(params, seed):
    line = "x" * (1 << 20) + "\n"
    for _ in range(100):
        sys.stdout.write(line)
    print("the last line")
    raise ValueError("after 100 MB")


def hang(params, seed):
    if "pid_file" in params:
        Path(params["pid_file"]).write_text(str(os.getpid()))
    print("hanging", flush=True)
    while True:
        time.sleep(60)


def hang_deaf(params, seed):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(params, seed)


def closes_everything(params, seed):
    os.closerange(0, 256)
    return {"out": b"done"}


def closes_output(params, seed):
    sys.stdout.close()
    os.close(1)
    return {"out": b"done"}


def spawns(params, seed):
    """A child that outlives the task, by exec; then end as params say."""
    child = subprocess.Popen(["sleep", "600"])
    return ends(child.pid, params)


def spawns_session(params, seed):
    """A grandchild in a session of its own, as a daemon has: its parent is gone, and so is its group."""
    script = (
        "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=2, start_new_session=True).pid)"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    return ends(int(done.stdout), params)


def spawns_unmarked(params, seed):
    """A child in a session of its own that has nothing of this process's environment."""
    return ends(subprocess.Popen(["/bin/sleep", "600"], env={}, start_new_session=True).pid, params)


def forks(params, seed):
    """A child that outlives the task, by fork: it holds every descriptor that the runner has."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    return ends(child, params)


def ends(child, params):
    Path(params["pid_file"]).write_text(str(child))
    if params.get("then") == "exit":
        os._exit(4)
    return {"out": b"done"}


def allocates(params, seed):
    block = bytearray(params["mib"] << 20)
    return {"out": str(len(block)).encode()}
