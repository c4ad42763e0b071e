"""Where tasks run: in the worker's process, in a warm runner, in a fork of one, in a new interpreter.

    Task -> Executor.run -> Outcome

A task's failure is an Outcome; an exception from run() is the executor's own fault.
Which isolation each type promises: docs/executors.md.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings


@dataclass(frozen=True)
class Task:
    """One call of a bundle's wire function: wire(entrypoint, params, seed) -> {name: bytes}."""

    bundle: Bundle
    entrypoint: str
    params: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt at a task.

    ok: `outputs` holds the wire function's bytes. failed: the model raised; `reason` is the exception's type, `error`
    its traceback. died: the process that ran it is gone; `reason` says how ("killed by signal 9", "TaskTimeout").
    `log` is the end of what the model printed (at most 64 KiB), kept when the status is not ok.
    """

    status: Literal["ok", "failed", "died"]
    outputs: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""
    error: str = ""
    log: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


class Executor(AbstractContextManager, Protocol):
    """Runs tasks, one per calling thread; its processes end when the `with` does."""

    def run(self, task: Task) -> Outcome: ...
