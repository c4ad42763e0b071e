"""A Dask scheduler that runs elsewhere: connect, and refuse workers that could not run a study.

address -> Client -> each worker says what it is -> the same Client, or ClusterFailed with the line to start
it by

Does not start or stop anything there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelops_dask.dask_logs import quieter
from modelops_dask.errors import BadInput, ClusterFailed

if TYPE_CHECKING:
    from distributed import Client


ANSWER_SECONDS = 30.0


@contextmanager
def connect(address: str) -> Iterator["Client"]:
    """A Client of a scheduler whose workers can all run studies.

    BadInput when the address has no port. ClusterFailed when the scheduler or a first worker is not there in
    time, or when a worker lacks the preload or has another version.
    """
    from distributed import Client
    from distributed.comm.addressing import parse_address, parse_host_port

    from modelops_dask.worker import runtime

    try:
        parse_host_port(parse_address(address)[1])
    except ValueError:
        raise BadInput(f"{address} is not a scheduler's address; write e.g. tcp://HOST:8786") from None
    try:
        client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except OSError as error:
        raise ClusterFailed(
            f"No Dask scheduler answers at {address} within {ANSWER_SECONDS:g} seconds: {error}"
        ) from error
    with quieter("distributed.client"), client:
        try:
            client.wait_for_workers(1, timeout=ANSWER_SECONDS)
        except TimeoutError as error:
            raise ClusterFailed(
                f"{address} has no workers. Start some there:\n  {_worker_line(address)}"
            ) from error
        if problems := _problems(client.run(runtime, on_error="return")):
            listed = "\n".join(f"  {worker}: {problem}" for worker, problem in problems.items())
            raise ClusterFailed(
                f"Workers of {address} cannot run studies:\n{listed}\n"
                f"Start them by:\n  {_worker_line(address)}"
            )
        yield client


def _problems(answers: dict[str, Any]) -> dict[str, str]:
    from modelops_dask.worker import versions

    found = {}
    for worker, answer in answers.items():
        if not isinstance(answer, dict):
            found[worker] = f"modelops_dask cannot be imported there ({answer})"
        elif not answer["executor"]:
            found[worker] = "it was started without the preload modelops_dask.worker"
        elif answer["executor"] == "none":
            found[worker] = "it is plain Dask: its executor.type is none"
        elif (there := _compared(answer)) != (here := _compared(versions())):
            differing = {name: version for name, version in there.items() if version != here[name]}
            found[worker] = f"it has {_named(differing)}, here is {_named(here)}"
    return found


def _compared(versions: dict[str, str]) -> dict[str, str]:
    """What must be the same there and here."""
    python, _, _ = versions["python"].rpartition(".")
    return {"modelops_dask": versions["modelops_dask"], "python": python}


def _named(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _worker_line(address: str) -> str:
    return f"dask worker {address} --preload modelops_dask.worker"
