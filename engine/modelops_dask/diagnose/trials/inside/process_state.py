"""The state of a process besides its modules: variables, folder, random state, settings, descriptors.

    ProcessState() -> tasks run -> changes() -> StateChange, one for each of STATE_ENTRIES that differs

Each entry is read and, if possible, restored by its own functions. Values of variables whose names look like
secrets are not shown. Modules are handled in snapshot.py.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from modelops_dask.diagnose.trials.inside import model_values
from modelops_dask.diagnose.trials.inside.state_change import OF_PROCESS, StateChange

LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]
LoggerState = tuple[int, list[Any], bool, bool]  # level, handlers, propagates, is disabled
NEW_LOGGER: LoggerState = (0, [], True, False)


class StateEntry(NamedTuple):
    """read() returns a dict of values by name, or one value; write(that result) restores it."""

    holder: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None = None


class ProcessState:
    """The state of this process when this was created."""

    def __init__(self) -> None:
        self._before = {entry.holder: _read(entry) for entry in STATE_ENTRIES}

    def list_changes(self) -> Iterator[StateChange]:
        """All current differences."""
        for entry in STATE_ENTRIES:
            before, now = self._before[entry.holder], _read(entry)
            if model_values.are_same(before, now):
                continue
            name, before_text, after_text = _describe_change(before, now)
            yield StateChange(
                holder=entry.holder,
                name=name,
                before=before_text,
                after=after_text,
                undo=partial(entry.write, before)
                if entry.write and before is not model_values.MISSING
                else None,
                owner=OF_PROCESS,
            )


def _describe_change(before: Any, now: Any) -> tuple[str, str, str]:
    if not isinstance(before, dict) or not isinstance(now, dict):
        if isinstance(before, set) and isinstance(now, set):
            return (
                "",
                model_values.describe(before - now or set()),
                model_values.describe(now - before or set()),
            )
        if isinstance(before, list) and isinstance(now, list):
            return "", f"{len(before)} entries", _describe_entries(before, now)
        return "", model_values.describe(before), model_values.describe(now)
    missing = model_values.MISSING
    names = [
        name
        for name in {**before, **now}
        if not model_values.are_same(before.get(name, missing), now.get(name, missing))
    ]
    if len(names) == 1:
        return names[0], _describe_value(names[0], before), _describe_value(names[0], now)
    old, new = (
        ", ".join(f"{name}: {_describe_value(name, side)}" for name in names[:4]) for side in (before, now)
    )
    return "", old, new


def _describe_value(name: str, values: dict[str, Any]) -> str:
    return model_values.describe_named(name, values.get(name, model_values.MISSING))


def _describe_entries(before: list, now: list) -> str:
    text = f"{len(now)} entries"
    for entries, others, word in ((now, before, "new"), (before, now, "gone")):
        if unmatched := [entry for entry in entries if not _contains(others, entry)]:
            text += f", {word}: {', '.join(map(model_values.describe, unmatched[:3]))}"
    return text


def _contains(entries: list, entry: Any) -> bool:
    return any(model_values.are_same(entry, other) for other in entries)


def _read(entry: StateEntry) -> Any:
    try:
        return entry.read()
    except Exception:  # not on this system, or not loaded
        return model_values.MISSING


def _set_environment(saved: dict) -> None:
    os.environ.clear()
    os.environ.update(saved)


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _loaded_module(name: str) -> Any:
    return sys.modules[name]


def _read_decimal() -> dict:
    context = _loaded_module("decimal").getcontext()
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
    traps = sorted(trap.__name__ for trap, is_set in context.traps.items() if is_set)
    return {**{name: getattr(context, name) for name in names}, "traps": traps}


def _set_decimal(saved: dict) -> None:
    decimal = _loaded_module("decimal")
    context = decimal.getcontext()
    for name, value in saved.items():
        if name != "traps":
            setattr(context, name, value)
    for trap in context.traps:
        context.traps[trap] = trap.__name__ in saved["traps"]


def _set_warnings(saved: list) -> None:
    warnings = _loaded_module("warnings")
    warnings.filters[:] = saved
    with contextlib.suppress(AttributeError):
        warnings._filters_mutated()


def _read_loggers() -> dict[str, LoggerState]:
    """(level, handlers, propagates, is disabled) of the loggers that differ from new ones."""
    states = {
        name: (logger.level, list(logger.handlers), logger.propagate, bool(logger.disabled))
        for name, logger in _list_loggers().items()
    }
    return {name: state for name, state in states.items() if state != NEW_LOGGER}


def _set_loggers(saved: dict[str, LoggerState]) -> None:
    for name, logger in _list_loggers().items():
        level, handlers, logger.propagate, logger.disabled = saved.get(name, NEW_LOGGER)
        logger.handlers[:] = handlers
        logger.setLevel(level)


def _list_loggers() -> dict[str, Any]:
    logging = _loaded_module("logging")
    registered = {"root": logging.root, **logging.root.manager.loggerDict}
    return {name: logger for name, logger in registered.items() if isinstance(logger, logging.Logger)}


def _read_signals() -> dict:
    return {
        number.name: signal.getsignal(number) for number in signal.valid_signals() if hasattr(number, "name")
    }


def _set_signals(saved: dict) -> None:
    for name, handler in saved.items():
        with contextlib.suppress(OSError, ValueError, TypeError):
            if signal.getsignal(signal.Signals[name]) is not handler:
                signal.signal(signal.Signals[name], handler)


def _set_collection(saved: tuple) -> None:
    (gc.enable if saved[0] else gc.disable)()
    gc.set_threshold(*saved[1])


def _read_limits() -> dict:
    return {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS}


def _set_limits(saved: dict) -> None:
    for name, value in saved.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), value)


def _read_numpy_random() -> Any:
    return model_values.Opaque(_loaded_module("numpy.random").get_state(legacy=False))


def _set_print_options(saved: dict) -> None:
    _loaded_module("numpy").set_printoptions(
        **{name: value for name, value in saved.items() if name != "override_repr"}
    )


def _read_open_files() -> set:
    targets = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            targets.add(target if target.startswith("/") else target.partition(":")[0])
    return targets


def _read_libraries() -> set:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.rpartition("/")[2] for line in lines if ".so" in line and "/" in line}


def _read_children() -> set:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}


STATE_ENTRIES = (
    StateEntry("os.environ", lambda: dict(os.environ), _set_environment),
    StateEntry("cwd", os.getcwd, os.chdir),
    StateEntry("umask", _read_umask, os.umask),
    StateEntry(
        "random: global state",
        lambda: model_values.Opaque(random.getstate()),
        lambda saved: random.setstate(saved.value),
    ),
    StateEntry(
        "numpy.random: global state",
        _read_numpy_random,
        lambda saved: _loaded_module("numpy.random").set_state(saved.value),
    ),
    StateEntry(
        "numpy.errstate",
        lambda: _loaded_module("numpy").geterr(),
        lambda saved: _loaded_module("numpy").seterr(**saved),
    ),
    StateEntry("numpy.printoptions", lambda: _loaded_module("numpy").get_printoptions(), _set_print_options),
    StateEntry("decimal context", _read_decimal, _set_decimal),
    StateEntry(
        "locale",
        lambda: _loaded_module("locale").setlocale(_loaded_module("locale").LC_ALL),
        lambda saved: _loaded_module("locale").setlocale(_loaded_module("locale").LC_ALL, saved),
    ),
    StateEntry("time zone", lambda: time.tzname, lambda _saved: time.tzset()),
    StateEntry("sys.path", lambda: list(sys.path), lambda saved: sys.path.__setitem__(slice(None), saved)),
    StateEntry("sys.argv", lambda: list(sys.argv), lambda saved: sys.argv.__setitem__(slice(None), saved)),
    StateEntry("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    StateEntry("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    StateEntry("warnings.filters", lambda: list(_loaded_module("warnings").filters), _set_warnings),
    StateEntry("loggers", _read_loggers, _set_loggers),
    StateEntry("signal handlers", _read_signals, _set_signals),
    StateEntry("garbage collection", lambda: (gc.isenabled(), gc.get_threshold()), _set_collection),
    StateEntry("socket time limit", socket.getdefaulttimeout, socket.setdefaulttimeout),
    StateEntry("limits", _read_limits, _set_limits),
    StateEntry("processors", lambda: os.sched_getaffinity(0), lambda saved: os.sched_setaffinity(0, saved)),
    StateEntry("open files", _read_open_files),
    StateEntry("threads", lambda: {thread.name for thread in threading.enumerate()}),
    StateEntry("child processes", _read_children),
    StateEntry("native libraries", _read_libraries),
)
