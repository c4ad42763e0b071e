"""The first process of a worker's container: `python -m modelops_dask.init COMMAND...`.

    command -> a child; signals -> the child; every ended process -> collected; the child's end -> ours

A model's own processes survive a killed runner, and are adopted by the first process. `dask worker` collects
only its own, so the others would stay as zombies and use up the pod's process numbers.

Restarts are left to Kubernetes. Linux only.
"""

import ctypes
import os
import signal

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: adopt orphans even if this is not process 1
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run(command: list[str]) -> int:
    """Run a command and collect ended processes; returns its exit status, 128 + N after signal N.

    Raises OSError if the command cannot be started.
    """
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is a child to pass them to
    child = os.posix_spawnp(command[0], command, os.environ, setsigmask=())
    for number in FORWARDED:
        signal.signal(number, lambda signal_number, _: os.kill(child, signal_number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
