"""Ask every worker process for its effective settings: `python -m modelops_dask.ask SCHEDULER [KEY…]`.

    Settings, shape, Dask's configuration at each KEY, of each process -> JSON on stdout, a list

`mops-helm status` runs it in the scheduler's pod, while tasks continue. Values are not known here, so nothing
is judged.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Worker

CONNECT_SECONDS = 30
ANSWER_SECONDS = 30  # a task that holds the interpreter may keep a process from answering


def effective(keys: Sequence[str], dask_worker: "Worker") -> dict[str, Any]:
    """On a worker: MODELOPS_ variables as applied, threads, memory limit in bytes, Dask's settings.

    `settings` is None without the preload modelops_dask.worker.
    """
    import dask

    from modelops_dask.workers.runtime import runtime_of

    runtime = runtime_of(dask_worker)
    return {
        "settings": None if runtime is None else runtime.settings.to_env(),
        "threads": dask_worker.state.nthreads,
        "memory_limit_bytes": int(dask_worker.memory_manager.memory_limit or 0),
        "dask": {key: dask.config.get(key, None) for key in keys},
    }


async def ask(address: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The answer of each process, with its address and host; `error` if it did not answer."""
    from distributed import Client

    async with Client(address, asynchronous=True, timeout=CONNECT_SECONDS, set_as_default=False) as client:
        workers = (await client.scheduler.identity(n_workers=-1))["workers"]
        return await asyncio.gather(
            *(_ask_worker(client, name, facts, keys) for name, facts in workers.items())
        )


async def _ask_worker(client: Any, worker: str, facts: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    identity = {"address": worker, "host": facts["host"]}
    request = client.run(effective, list(keys), workers=[worker], on_error="return")
    try:
        answer = (await asyncio.wait_for(request, ANSWER_SECONDS))[worker]
    except TimeoutError:
        return {**identity, "error": f"no answer within {ANSWER_SECONDS} s"}
    except (OSError, KeyError):
        return {**identity, "error": "the process has ended"}
    return {**identity, **answer} if isinstance(answer, dict) else {**identity, "error": repr(answer)}


def main(address: str, keys: Sequence[str]) -> int:
    """Print the answers and return the exit status: 5 if no scheduler answers."""
    from modelops_dask.errors import ClusterFailed

    try:
        answers = asyncio.run(ask(address, keys))
    except OSError as error:
        print(f"No scheduler answers at {address}: {error}", file=sys.stderr)
        return ClusterFailed.exit_code
    json.dump(answers, sys.stdout)
    return 0
