"""Empty a worker pod before it ends: its preStop hook runs `python -m modelops_dask.drain ADDRESS GRACE`.

    this pod's worker processes -> accept no more tasks -> finish running tasks -> hand over data, leave

Dask has no call for it: after SIGTERM or retire_workers, running tasks of a worker run again elsewhere. A
study's driver receives the same news as an event (announce) and sends its batches elsewhere
(study/dispatch.py).

It succeeds if no scheduler answers, because there is then nothing to hand over. Kubernetes ends the
container, at the end of the hook or of the grace period.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

ACTION = "modelops-drain"  # of the event in Dask's topic "all"; with `worker` and `executing`, a list of keys
CONNECT_SECONDS = 5
LOG = Path("/proc/1/fd/2")  # the container's: a hook's own output is kept only if it fails
LEAVE_SECONDS = 10  # of the grace period, to hand over data and end
POLL_SECONDS = 0.5


def drain(client: "Client", workers: list[str], seconds: float) -> dict[str, list[str]]:
    """Stop workers from accepting tasks, wait until they are idle and let them leave.

    After `seconds` running tasks are given up, and Dask runs them elsewhere. Returns these, as keys by
    worker; {} if all finished.
    """
    deadline = time.monotonic() + seconds
    running = _busy(client.run(announce, workers=workers, on_error="ignore"))
    while running and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        running = _busy(client.run(executing, workers=workers, on_error="ignore"))
    client.retire_workers(workers)
    return running


def announce(dask_worker: Any) -> list[str]:
    """On a worker: accept no more tasks and announce which of them run to their end."""
    from distributed.core import Status

    dask_worker.status = Status.closing_gracefully
    running = executing(dask_worker)
    dask_worker.log_event("all", {"action": ACTION, "worker": dask_worker.address, "executing": running})
    return running


def executing(dask_worker: Any) -> list[str]:
    """On a worker: the keys of the tasks that it is running."""
    return [str(task.key) for task in (*dask_worker.state.executing, *dask_worker.state.long_running)]


def _busy(answers: dict[str, list[str]]) -> dict[str, list[str]]:
    return {worker: keys for worker, keys in answers.items() if keys}


def main(address: str, grace_seconds: float) -> None:
    """Drain the worker processes with this pod's address."""
    from distributed import Client
    from distributed.comm.addressing import (
        get_address_host,
        get_local_address_for,
        parse_address,
        parse_host_port,
    )

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError:
        _say(f"no scheduler answers at {address}; there is nothing to hand over")
        return
    with client:
        pod_host, _ = parse_host_port(parse_address(get_local_address_for(address))[1], 0)
        workers = [worker for worker in client.nthreads() if get_address_host(worker) == pod_host]
        _say(f"{len(workers)} worker processes accept no more tasks and finish their running ones")
        start = time.monotonic()
        left = drain(client, workers, max(1.0, grace_seconds - LEAVE_SECONDS))
        for worker, keys in left.items():
            _say(f"{worker} is out of time; these run on other workers: {', '.join(keys)}")
        _say(f"done after {time.monotonic() - start:.1f} s")


def _say(line: str) -> None:
    line = f"ModelOps drain: {line}\n"
    try:
        LOG.write_text(line)
    except OSError:  # not in a container of its own
        sys.stderr.write(line)
