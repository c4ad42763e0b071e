"""Empty a worker pod before it ends: its preStop hook runs `python -m modelops_dask.drain ADDRESS GRACE`.

    this pod's worker processes -> take no more tasks -> finish what they run -> hand over data, leave

Dask has no call for it: after SIGTERM or retire_workers, what a worker is busy with runs again elsewhere.
A study's driver hears the same news as an event (announce) and keeps its batches away (study/dispatch.py).

Ends well when no scheduler answers, for then there is nobody to hand anything to. Does not end the container:
Kubernetes does, at the end of the hook or of the grace period.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

ACTION = "modelops-drain"  # of the event in Dask's topic "all"; with `worker` and `executing`, a list of keys
CONNECT_SECONDS = 5
LOG = Path("/proc/1/fd/2")  # the container's: what a hook prints itself is kept only when it fails
LEAVE_SECONDS = 10  # of the grace period, to hand over data and end
POLL_SECONDS = 0.5


def drain(client: "Client", workers: list[str], seconds: float) -> dict[str, list[str]]:
    """Have workers take no more tasks, wait until they are idle and let them leave.

    After `seconds` what still runs is given up, and Dask runs it elsewhere. Returns that, keys by worker; {}
    when all was finished.
    """
    deadline = time.monotonic() + seconds
    running = _busy(client.run(announce, workers=workers, on_error="ignore"))
    while running and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        running = _busy(client.run(executing, workers=workers, on_error="ignore"))
    client.retire_workers(workers)
    return running


def announce(dask_worker: Any) -> list[str]:
    """On a worker: take no more tasks and tell whoever listens, which of them run to their end."""
    from distributed.core import Status

    dask_worker.status = Status.closing_gracefully
    running = executing(dask_worker)
    dask_worker.log_event("all", {"action": ACTION, "worker": dask_worker.address, "executing": running})
    return running


def executing(dask_worker: Any) -> list[str]:
    """On a worker: the keys of the tasks that it runs now."""
    return [str(task.key) for task in (*dask_worker.state.executing, *dask_worker.state.long_running)]


def _busy(answers: dict[str, list[str]]) -> dict[str, list[str]]:
    return {worker: keys for worker, keys in answers.items() if keys}


def main(address: str, grace_seconds: float) -> None:
    """Drain the worker processes that have this pod's address."""
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
