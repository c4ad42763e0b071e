"""The first process of a worker's container: `python -m modelops_dask.init COMMAND...`.

    command -> a child; signals -> the child; every process that ends -> collected; the child's end -> ours

A model's own processes outlive the runner that is killed, and go to the first process. `dask worker` collects
none but its own, so the others would stay as zombies and use up the pod's process numbers.

Does not restart anything: Kubernetes does. Linux only.
"""

import ctypes
import os
import signal

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans come here where this is not process 1
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run(command: list[str]) -> int:
    """Run a command and collect what ends meanwhile; its exit status, 128 + N after signal N.

    OSError: the command cannot be started.
    """
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is somebody to hand them to
    child = os.posix_spawnp(command[0], command, os.environ, setsigmask=())
    for number in FORWARDED:
        signal.signal(number, lambda signal_number, _: os.kill(child, signal_number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
