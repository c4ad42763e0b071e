"""The first process of a container, on real processes: orphans, signals and exit statuses."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux")
INIT = [sys.executable, "-m", "modelops_dask.init"]

# Leaves a process of its own without a parent, which says who it is, and lives on.
LEAVE = """
import os, sys
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.read(read, 1)  # until it is told to end
    os._exit(0)
os.wait()
sys.stdin.readline()
os.write(write, b".")
sys.stdin.readline()
"""
HEED = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
signal.pause()
"""


def test_an_orphan_is_collected_while_the_command_runs():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*INIT, sys.executable, "-c", LEAVE], text=True, **pipes) as init:
        orphan = Path("/proc", init.stdout.readline().strip())
        assert orphan.exists()
        init.stdin.write("end it\n")
        init.stdin.flush()
        wait_for(lambda: not orphan.exists(), "end of the orphan, its entry too")
        assert init.poll() is None, "the command runs on"
        init.stdin.close()
    assert init.returncode == 0


def test_the_command_gets_the_signal_and_its_status_is_ours():
    with subprocess.Popen([*INIT, sys.executable, "-c", HEED], stdout=subprocess.PIPE) as init:
        init.stdout.readline()
        init.terminate()
    assert init.returncode == 7


def test_the_end_by_a_signal_is_told_as_a_shell_does():
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([*INIT, sys.executable, "-c", program]).returncode == 128 + signal.SIGKILL


def test_a_command_that_does_not_exist():
    done = subprocess.run([*INIT, "no-such-program"], text=True, capture_output=True)
    assert done.returncode == 1
    assert "No such file or directory: 'no-such-program'" in done.stderr
