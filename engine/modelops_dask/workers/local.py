"""An embedded Dask cluster: the shape of a worker pool, on this machine.

Shape -> fitted to the machine -> scheduler here, workers on loopback, each with the preload -> Client

The worker processes are like a pod's: the same variables, the same Dask configuration, the same preload. They
end with the `with`, and on their own if this process is killed. As a preload, this module keeps Ctrl-C, which
a terminal sends to every process, away from the workers: the driver decides when they stop.

Studies and values files are not known here: mops_helm.values.effective makes the shape and the settings.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelops_dask.errors import ClusterFailed
from modelops_dask.limits import cgroup
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape, fit
from modelops_dask.workers import process_room
from modelops_dask.workers.dask_logs import ABOUT_CONNECTIONS, quieter

if TYPE_CHECKING:
    from distributed import Client

# By default a LocalCluster gives up a worker permanently if it is away for 15 seconds after a death, although
# its nanny restarts it each time: a model that kills its process would use up all workers one by one.
_OWN_CONFIG = {"distributed": {"deploy": {"lost-worker-timeout": "365 days"}}}
# A profiler for a missing dashboard and 50 ticks per second take 5% of a core from each worker.
_DEFAULT_CONFIG = {
    "distributed": {"worker": {"profile": {"enabled": False}}, "admin": {"tick": {"interval": "500ms"}}}
}


def machine() -> tuple[int, int]:
    """CPUs and bytes of memory that this process may use, within affinity and cgroup limits."""
    from dask.system import CPU_COUNT

    if sys.platform == "linux":
        return CPU_COUNT, cgroup.memory().limit_bytes
    from distributed.system import MEMORY_LIMIT  # on Linux it reads only the root of the cgroups

    return CPU_COUNT, MEMORY_LIMIT


@contextmanager
def local_cluster(
    shape: Shape,
    settings: Settings,
    dask_config: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator["Client"]:
    """A Client of a cluster of worker processes on 127.0.0.1, for the duration of the `with`.

    `shape` is reduced to this machine's resources, and `say` receives a message about that. `dask_config` is
    nested, with Dask's own names. `env` are variables for the workers; those of `settings` win. Raises
    ClusterFailed if no worker starts.
    """
    import dask
    from distributed import Client, LocalCluster

    fitted, reduced = fit(shape, *machine())
    shortage = process_room.check_here(fitted.processes, fitted.threads, settings, env or {})
    for line in (*reduced, *filter(None, [shortage])):
        say(line)
    config = dask.config.merge(dask.config.config, _DEFAULT_CONFIG, dask_config or {}, _OWN_CONFIG)
    with (
        environment({**(env or {}), **settings.to_env()}),
        dask.config.set(config),
        quieter(*ABOUT_CONNECTIONS),
    ):
        try:
            cluster = LocalCluster(
                n_workers=fitted.processes,
                threads_per_worker=fitted.threads,
                memory_limit=fitted.process_memory_bytes,
                resources=fitted.resources or None,
                host="127.0.0.1",
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                preload=["modelops_dask.workers.local", "modelops_dask.workers.runtime"],
            )
        except Exception as error:
            raise ClusterFailed(f"The local Dask workers did not start: {_root(error)}") from error
        with (
            quieter("distributed.nanny", "distributed.scheduler"),  # about deaths
            cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


def dask_setup(worker: object) -> None:  # noqa: ARG001 (a preload is called so)
    """Leave Ctrl-C, standard output (it is for results) and messages on settings and failures to the
    driver.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.getLogger("distributed.modelops").setLevel(logging.ERROR)
    logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)
    # A heartbeat during the worker's shutdown fails with a traceback, at the end of a successful run.
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables in this process while it starts others: thread counts must be set before NumPy is
    imported.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _root(error: BaseException) -> BaseException:
    """The original error inside Dask's wrapping."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
