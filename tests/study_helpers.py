"""What tests of running studies share: the model of tests/bundles/knobs, its studies, the command as a
process.
"""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

KNOBS = Path(__file__).parent / "bundles" / "knobs"
COMMAND = [sys.executable, "-c", "from mops_helm.main import main; main()"]
SMALL = ["--set", "workers.replicas=1,workers.processes=2,executor.environment=image"]


def write_spec(
    folder: Path, *, name: str = "knobs", n: int = 10, replicates: int = 1, **fixed: object
) -> Path:
    """A study of x = 0 … n-1 beside no bundle; JSON is YAML."""
    path = folder / "study.yaml"
    study = {"name": name, "entrypoint": "knobs.wire/any", "bundle": str(KNOBS), "replicates": replicates}
    path.write_text(json.dumps({**study, "fixed": fixed, "grid": {"x": list(range(n))}}))
    return path


def environ(folder: Path) -> dict[str, str]:
    """This environment with caches of its own and no terminal tricks."""
    return {**os.environ, "MODELOPS_BUNDLES_CACHE_DIR": str(folder / "cache"), "NO_COLOR": "1"}


def start(*args: object, cwd: Path, within: Sequence[str] = ()) -> subprocess.Popen:
    """`mops-helm ARGS`, in a session of its own as in a terminal; `within` is a command that runs it."""
    return subprocess.Popen(
        [*within, *COMMAND, *map(str, args)],
        cwd=cwd,
        env=environ(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, timeout_seconds: float = 120) -> subprocess.CompletedProcess:
    """Its end; what it printed is in the assertion's message when a test fails."""
    try:
        out, err = process.communicate(timeout=timeout_seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for_line(process: subprocess.Popen, text: str, timeout_seconds: float = 120) -> None:
    """Read its standard error up to a line with this text; a process without one in time is killed."""
    timer = threading.Timer(timeout_seconds, process.kill)
    timer.start()
    try:
        assert any(text in line for line in iter(process.stderr.readline, "")), f"it did not print {text!r}"
    finally:
        timer.cancel()


def mops_helm(*args: object, cwd: Path, timeout_seconds: float = 120) -> subprocess.CompletedProcess:
    return finish(start(*args, cwd=cwd), timeout_seconds)


def below(process: subprocess.Popen, *, runner: bool) -> list[psutil.Process]:
    """The Dask worker processes of a run, or their runners."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        is_runner = any(word.endswith("runner.py") for word in words)
        is_worker = any("spawn_main" in word for word in words)
        if is_runner if runner else is_worker:
            found.append(child)
    return found


def parts_in(store: Path) -> int:
    """How many batches are stored."""
    return len(list((store / "parts").glob("*.parquet")))


def type_on_terminal(*words: object, cwd: Path, keys: str = "") -> str:
    """What a command writes, both streams, when a person types it, and then these keys."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, *map(str, words)]
    process = subprocess.Popen(command, cwd=cwd, env=environ(cwd), stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    os.write(ours, keys.encode())
    pieces = []
    try:
        while piece := os.read(ours, 1 << 16):
            pieces.append(piece)
    except OSError:  # Linux says so when the other side is closed
        pass
    os.close(ours)
    process.wait(60)
    return b"".join(pieces).decode().replace("\r\n", "\n")
