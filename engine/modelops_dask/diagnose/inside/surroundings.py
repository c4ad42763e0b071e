"""What a process has beside its modules: variables, folder, random state, settings, descriptors.

    Surroundings() -> tasks run -> changes() -> (where, name, before, after, undo)

Each is read and, where that can be done, put back by a function of FACTS. Of variables whose names look like
secrets the values are not shown. Does not know modules: snapshot.py does.
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
from pathlib import Path
from typing import Any, NamedTuple

from modelops_dask.diagnose.inside import shown

LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]


NEW_LOGGER = (0, [], True, False)


class Fact(NamedTuple):
    """read() gives a dict of values by name, or one value; write(what was read) puts it back."""

    where: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None = None


class Surroundings:
    """What there is now."""

    def __init__(self) -> None:
        self._before = {fact.where: _read(fact) for fact in FACTS}

    def changes(self) -> Iterator[tuple[str, str, str, str, Callable[[], object] | None]]:
        """(where, name, before, after, what undoes it or None) of all that is otherwise now."""
        for fact in FACTS:
            before, now = self._before[fact.where], _read(fact)
            if shown.same(before, now):
                continue
            undo = None
            if fact.write and before is not shown.MISSING:

                def undo(fact: Fact = fact, before: Any = before) -> None:
                    fact.write(before)

            yield (fact.where, *_texts(before, now), undo)


def _texts(before: Any, now: Any) -> tuple[str, str, str]:
    if not isinstance(before, dict) or not isinstance(now, dict):
        if isinstance(before, set) and isinstance(now, set):
            return "", shown.short(before - now or set()), shown.short(now - before or set())
        if isinstance(before, list) and isinstance(now, list):
            return "", f"{len(before)} entries", _entries(before, now)
        return "", shown.short(before), shown.short(now)
    names = [
        name
        for name in {**before, **now}
        if not shown.same(before.get(name, shown.MISSING), now.get(name, shown.MISSING))
    ]
    if len(names) == 1:
        return names[0], *(shown.named(names[0], side.get(names[0], shown.MISSING)) for side in (before, now))
    return "", *(
        ", ".join(f"{name}: {shown.named(name, side.get(name, shown.MISSING))}" for name in names[:4])
        for side in (before, now)
    )


def _entries(before: list, now: list) -> str:
    text = f"{len(now)} entries"
    for side, other, word in ((now, before, "new"), (before, now, "gone")):
        if some := [one for one in side if not any(shown.same(one, each) for each in other)]:
            text += f", {word}: {', '.join(map(shown.short, some[:3]))}"
    return text


def _read(fact: Fact) -> Any:
    try:
        return fact.read()
    except Exception:  # not on this system, or not loaded
        return shown.MISSING


def _set_environment(saved: dict) -> None:
    os.environ.clear()
    os.environ.update(saved)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _loaded(name: str) -> Any:
    return sys.modules[name]


def _decimal() -> dict:
    context = _loaded("decimal").getcontext()
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
    traps = sorted(trap.__name__ for trap, is_set in context.traps.items() if is_set)
    return {**{name: getattr(context, name) for name in names}, "traps": traps}


def _set_decimal(saved: dict) -> None:
    decimal = _loaded("decimal")
    context = decimal.getcontext()
    for name, value in saved.items():
        if name != "traps":
            setattr(context, name, value)
    for trap in context.traps:
        context.traps[trap] = trap.__name__ in saved["traps"]


def _set_warnings(saved: list) -> None:
    warnings = _loaded("warnings")
    warnings.filters[:] = saved
    with contextlib.suppress(AttributeError):
        warnings._filters_mutated()


def _loggers() -> dict:
    """(level, handlers, propagates, is disabled) of the loggers that are not as new ones are."""
    found = {
        name: (one.level, list(one.handlers), one.propagate, bool(one.disabled))
        for name, one in _all_loggers().items()
    }
    return {name: state for name, state in found.items() if state != NEW_LOGGER}


def _set_loggers(saved: dict) -> None:
    for name, one in _all_loggers().items():
        level, handlers, one.propagate, one.disabled = saved.get(name, NEW_LOGGER)
        one.handlers[:] = handlers
        one.setLevel(level)


def _all_loggers() -> dict:
    logging = _loaded("logging")
    named = {"root": logging.root, **logging.root.manager.loggerDict}
    return {name: one for name, one in named.items() if isinstance(one, logging.Logger)}


def _signals() -> dict:
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


def _limits() -> dict:
    return {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS}


def _set_limits(saved: dict) -> None:
    for name, value in saved.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), value)


def _numpy_random() -> Any:
    return shown.Opaque(_loaded("numpy.random").get_state(legacy=False))


def _set_print_options(saved: dict) -> None:
    _loaded("numpy").set_printoptions(
        **{name: value for name, value in saved.items() if name != "override_repr"}
    )


def _files() -> set:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            found.add(target if target.startswith("/") else target.partition(":")[0])
    return found


def _libraries() -> set:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.rpartition("/")[2] for line in lines if ".so" in line and "/" in line}


def _children() -> set:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}


FACTS = (
    Fact("os.environ", lambda: dict(os.environ), _set_environment),
    Fact("cwd", os.getcwd, os.chdir),
    Fact("umask", _umask, os.umask),
    Fact(
        "random: global state",
        lambda: shown.Opaque(random.getstate()),
        lambda saved: random.setstate(saved.value),
    ),
    Fact(
        "numpy.random: global state",
        _numpy_random,
        lambda saved: _loaded("numpy.random").set_state(saved.value),
    ),
    Fact("numpy.errstate", lambda: _loaded("numpy").geterr(), lambda saved: _loaded("numpy").seterr(**saved)),
    Fact("numpy.printoptions", lambda: _loaded("numpy").get_printoptions(), _set_print_options),
    Fact("decimal context", _decimal, _set_decimal),
    Fact(
        "locale",
        lambda: _loaded("locale").setlocale(_loaded("locale").LC_ALL),
        lambda saved: _loaded("locale").setlocale(_loaded("locale").LC_ALL, saved),
    ),
    Fact("time zone", lambda: time.tzname, lambda _saved: time.tzset()),
    Fact("sys.path", lambda: list(sys.path), lambda saved: sys.path.__setitem__(slice(None), saved)),
    Fact("sys.argv", lambda: list(sys.argv), lambda saved: sys.argv.__setitem__(slice(None), saved)),
    Fact("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Fact("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Fact("warnings.filters", lambda: list(_loaded("warnings").filters), _set_warnings),
    Fact("loggers", _loggers, _set_loggers),
    Fact("signal handlers", _signals, _set_signals),
    Fact("garbage collection", lambda: (gc.isenabled(), gc.get_threshold()), _set_collection),
    Fact("socket time limit", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Fact("limits", _limits, _set_limits),
    Fact("processors", lambda: os.sched_getaffinity(0), lambda saved: os.sched_setaffinity(0, saved)),
    Fact("open files", _files),
    Fact("threads", lambda: {thread.name for thread in threading.enumerate()}),
    Fact("child processes", _children),
    Fact("native libraries", _libraries),
)
