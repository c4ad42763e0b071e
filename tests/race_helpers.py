"""Processes of their own, for tests of what only one of many may do, or of what a killed one leaves.

They are started from a fresh interpreter that runs this file: pytest has threads, and takes long to import.
"""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelops_dask import bundle
from modelops_dask.environments import venv
from modelops_dask.plan.spec import Spec
from modelops_dask.store import study
from modelops_dask.store.files import Store


def at_once(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What an importable function returns in each of `count` processes that call it at the same moment."""
    request = pickle.dumps((count, function, arguments))
    done = subprocess.run([sys.executable, __file__], input=request, stdout=subprocess.PIPE, timeout=300)
    assert done.returncode == 0, "a process failed; its error is above"
    return pickle.loads(done.stdout)


def killed_in(function: Callable[..., Any], *arguments: Any, then: Callable[[], None] | None = None) -> None:
    """Kill a process (-9) in one of the functions below, once it has said that it hangs; `then` before."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(pickle.dumps((0, function, arguments)))
        process.stdin.close()
        assert process.stdout.readline() == b"hangs\n"
        if then:
            then()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def create_many(url: str, count: int) -> tuple[bytes, list[int]]:
    """What a process wrote, and the numbers of the files race/NUMBER in a store whose creation it won."""
    mine = b"%d" % os.getpid()
    return mine, [number for number in range(count) if Store(url).create(f"race/{number}", mine)]


def begin_study(url: str, spec: Spec, digest: str) -> list[dict[str, Any]]:
    """Begin a study, as each of its chunks does; the parameters of its tasks."""
    plan = study.begin(Store(url), spec, digest)
    return [task.params for task in plan.tasks([(0, plan.absent.size)])]


def hang_in_fetch(reference: str, cache: Path) -> None:
    """Fetch a bundle, and hang when it is unpacked and not yet kept."""
    bundle.digest_of = lambda *_: _hang()
    bundle.fetch(reference, cache)


def environment_and_builds(one: bundle.Bundle, settings: Any) -> tuple[venv.Environment, int]:
    """An environment, and how often this process built it."""
    builds, build = [], venv._build
    venv._build = lambda *arguments: (builds.append(1), build(*arguments))
    return venv.environment(one, settings), len(builds)


def fresh_python(one: bundle.Bundle, settings: Any) -> Path:
    """The interpreter of a private environment."""
    with venv.fresh_environment(one, settings) as private:
        return private.python


def hang_in_environment(one: bundle.Bundle, settings: Any) -> None:
    """Have a private environment, and hang."""
    with venv.fresh_environment(one, settings):
        _hang()


def _hang() -> None:
    print("hangs", flush=True)
    threading.Event().wait()


def _run(count: int, function: Callable[..., Any], arguments: tuple) -> None:
    if not count:
        function(*arguments)
        return
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(count)
    with context.Pool(count, _keep, (gate,)) as pool:
        answers = pool.starmap(_behind, [(function, *arguments)] * count, chunksize=1)
    sys.stdout.buffer.write(pickle.dumps(answers))


def _keep(gate: Any) -> None:
    global _gate
    _gate = gate


def _behind(function: Callable[..., Any], *arguments: Any) -> Any:
    _gate.wait()
    return function(*arguments)


if __name__ == "__main__":
    _run(*pickle.load(sys.stdin.buffer))
