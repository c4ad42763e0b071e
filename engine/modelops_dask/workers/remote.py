"""A Dask scheduler that runs elsewhere: connect, and refuse workers that cannot run a study.

    address -> Client -> facts about the scheduler and each worker -> the same Client, or ClusterFailed with
                                                                      the line that starts a worker

Nothing is started or stopped there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelops_dask.errors import BadInput, ClusterFailed, MopsError
from modelops_dask.workers import process_room
from modelops_dask.workers.dask_logs import ABOUT_CONNECTIONS, quieter

if TYPE_CHECKING:
    from distributed import Client, Worker


ANSWER_SECONDS = 30.0
DASK = ("dask", "distributed", "python")  # required of a scheduler as well


class NoScheduler(ClusterFailed):
    """No scheduler answers at the address, or it no longer does."""


class NoWorkersYet(ClusterFailed):
    """A scheduler without workers."""


class SchedulerLost(ClusterFailed):
    """The connection to the scheduler was lost."""

    def __str__(self) -> str:
        return (
            "The connection to the Dask scheduler was lost. Stored results are safe; run the same command "
            "to continue."
        )


@contextmanager
def asking(client: "Client") -> Iterator[None]:
    """Turn any error of Dask after losing the scheduler into SchedulerLost; a closed client may raise an
    AttributeError.
    """
    try:
        yield
    except MopsError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or client.status != "running":
            raise SchedulerLost from error
        raise


@contextmanager
def connect(
    address: str, resources: Mapping[str, float] | None = None, answer_seconds: float = 0
) -> Iterator["Client"]:
    """A Client of a scheduler whose workers can all run studies, and some of which have these resources.

    Raises:
        BadInput: The address has no port.
        NoScheduler: The scheduler did not answer in time (answer_seconds, ANSWER_SECONDS for 0).
        NoWorkersYet: No worker connected in time.
        ClusterFailed: As check().
    """
    from distributed import Client
    from distributed.comm.addressing import parse_address, parse_host_port

    try:
        parse_host_port(parse_address(address)[1])
    except ValueError:
        raise BadInput(f"{address} is not the address of a scheduler; write e.g. tcp://HOST:8786") from None
    answer_seconds = answer_seconds or ANSWER_SECONDS
    with quieter(*ABOUT_CONNECTIONS):
        try:
            client = Client(address, timeout=answer_seconds, set_as_default=False)
        except OSError as error:
            raise NoScheduler(
                f"No Dask scheduler answers at {address} within {answer_seconds:g} seconds: {error}"
            ) from error
        except (ValueError, TypeError) as error:  # of another scheme, or without its requirements
            raise BadInput(f"{address} cannot be used: {error}; write e.g. tcp://HOST:8786") from error
        with client:
            check(client, resources, answer_seconds)
            yield client


def check(client: "Client", resources: Mapping[str, float] | None = None, answer_seconds: float = 0) -> None:
    """Raise ClusterFailed, with the line that starts a suitable worker, unless the workers can run a study
    with these Dask resources.

    They must have the preload, and they and the scheduler must have this machine's versions.
    """
    assert client.scheduler is not None, "a client that is connected has one"
    address = str(client.scheduler.address)
    try:
        with asking(client):
            _check(client, address, resources or {}, answer_seconds or ANSWER_SECONDS)
    except SchedulerLost as error:
        raise NoScheduler(f"The Dask scheduler at {address} no longer answers: {error.__cause__}") from error


def find_process_shortages(client: "Client") -> list[str]:
    """The findings of all workers on their pods' process limits, without repetitions (process_room.py)."""
    answers = client.run(_find_process_shortage, on_error="return").values()
    return sorted({text for text in answers if isinstance(text, str) and text})


def _find_process_shortage(dask_worker: "Worker") -> str:
    from modelops_dask.workers.runtime import runtime_of

    runtime = runtime_of(dask_worker)
    return process_room.check_pod(runtime.threads, runtime.settings) if runtime else ""


def _check(client: "Client", address: str, resources: Mapping[str, float], answer_seconds: float) -> None:
    from modelops_dask.workers.runtime import runtime, versions

    local_versions = _comparable_versions(versions())
    install, start = _describe_install(local_versions), _start_command(address, resources)
    local_text = _format_versions(local_versions)
    try:
        client.wait_for_workers(1, timeout=answer_seconds)
    except TimeoutError as error:
        raise NoWorkersYet(f"{address} has no workers. Start some there:\n{start}") from error
    all_versions = client.get_versions()
    assert isinstance(all_versions, dict), "the client is not asynchronous"
    packages = all_versions["scheduler"]["packages"]
    scheduler_versions = _comparable_versions({name: str(packages[name]) for name in DASK})
    if differing := _find_differing(scheduler_versions, local_versions):
        raise ClusterFailed(
            f"The scheduler {address} has {_format_versions(differing)}, but this machine has {local_text}: "
            f"they must be the same. Start it, and its workers, in an environment with {install}, "
            f"these by\n{start}"
        )
    if problems := _find_problems(client.run(runtime, on_error="return"), local_versions):
        lines = "\n".join(f"  {worker}: {problem}" for worker, problem in problems.items())
        raise ClusterFailed(
            f"Workers of {address} cannot run studies:\n{lines}\n"
            f"Start them, in an environment with {install}, by\n{start}"
        )
    offers = [worker["resources"] for worker in client.scheduler_info()["workers"].values()]
    if not any(all(offer.get(name, 0) >= need for name, need in resources.items()) for offer in offers):
        raise ClusterFailed(
            f"The study requests workers with {_format_resources(resources)}, but none of the {len(offers)} "
            f"of {address} has them. Start some with\n{start}"
        )


def _find_problems(answers: dict[str, Any], local_versions: dict[str, str]) -> dict[str, str]:
    problems = {}
    for worker, answer in answers.items():
        if not isinstance(answer, dict):
            problems[worker] = f"modelops_dask cannot be imported there ({answer})"
        elif differing := _find_differing(_comparable_versions(answer), local_versions):
            problems[worker] = (
                f"it has {_format_versions(differing)}, this machine has {_format_versions(local_versions)}"
            )
        elif not answer["executor"]:
            problems[worker] = "it was started without the preload modelops_dask.worker"
        elif answer["executor"] == "none":
            problems[worker] = "it is plain Dask: its executor.type is none"
    return problems


def _comparable_versions(versions: Mapping[str, Any]) -> dict[str, str]:
    """Select the versions that must agree; for Python the first two numbers."""
    comparable = {name: versions[name] for name in ("modelops_dask", *DASK) if name in versions}
    return {**comparable, "python": ".".join(comparable["python"].split(".")[:2])}


def _find_differing(remote_versions: dict[str, str], local_versions: dict[str, str]) -> dict[str, str]:
    return {name: version for name, version in remote_versions.items() if version != local_versions[name]}


def _format_versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _describe_install(versions: dict[str, str]) -> str:
    return (
        f"Python {versions['python']}, mops-helm=={versions['modelops_dask']}, dask=={versions['dask']} and "
        f"distributed=={versions['distributed']}"
    )


def _start_command(address: str, resources: Mapping[str, float]) -> str:
    line = f"  dask worker {address} --preload modelops_dask.worker"
    return f'{line} --resources "{_format_resources(resources)}"' if resources else line


def _format_resources(resources: Mapping[str, float]) -> str:
    return " ".join(f"{name}={need:g}" for name, need in resources.items())
