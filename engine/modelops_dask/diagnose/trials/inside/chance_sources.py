"""The sources of randomness of a process: their names, and their answers when frozen.

    replace_sources(trace), before the model is imported -> time.time, os.urandom, ... are wrapped

When frozen, clocks and entropy start from the same point in every process, and advance from call to call, so
that loops that wait for a clock end. System calls made by C code are not replaced.
"""

from __future__ import annotations

import builtins
import contextlib
import datetime
import gc
import os
import random
import sys
import threading
import time
import uuid
from typing import Any

WALL_SECONDS = 1_700_000_000.0  # where frozen clocks begin
STEP_SECONDS = 0.01  # that pass with each reading of a clock
SHIFT_SECONDS = 9_999_999.25  # to a clock of another month, weekday and hour
LAG_SECONDS = 0.4375  # to another clock that measures durations
UTC = datetime.timezone.utc  # noqa: UP017 (Python 3.9)
NO_PROCESS = 1 << 22  # the kernel's process numbers are below: a signal to a frozen one hits no process
CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
CALENDAR = {"localtime": 0, "gmtime": 0, "ctime": 0, "strftime": 1}  # the number of arguments before the time


def replace_sources(trace: Any) -> None:
    """Wrap all sources with trace.wrap (tracing.Trace). Call it once, before the model is imported."""
    with contextlib.suppress(Exception):  # not in every bundle's environment
        __import__("numpy.random")
    clock = _Clock()
    _replace_clocks(trace, clock)
    _replace_calendar(trace, clock)
    _replace_entropy(trace)
    _replace_identity(trace)
    if not trace.frozen:
        _replace_generators(trace)
    _replace_threads(trace)
    sys.addaudithook(trace.audit)


class _Clock:
    """A frozen clock. Each reading and each sleep advances it."""

    def __init__(self) -> None:
        self.passed_seconds = 0.0

    def wall(self, shifted: bool) -> float:
        self.passed_seconds += STEP_SECONDS
        return WALL_SECONDS + self.passed_seconds + SHIFT_SECONDS * shifted

    def duration(self, shifted: bool) -> float:
        # Faster by half as well: otherwise the difference of two readings would be the same.
        self.passed_seconds += STEP_SECONDS
        return 1000 + self.passed_seconds * (1.5 if shifted else 1) + LAG_SECONDS * shifted


def _replace_clocks(trace: Any, clock: _Clock) -> None:
    for name in CLOCKS:
        read = clock.wall if name == "time" else clock.duration

        def nanoseconds(shifted: bool, read: Any = read) -> int:
            return int(read(shifted) * 1e9)

        for called, fake in ((name, read), (f"{name}_ns", nanoseconds)):
            if hasattr(time, called):
                # Queues, event loops and similar code wait with the other clocks: these must advance without
                # readings.
                direct = name != "time"
                real = getattr(time, called)
                setattr(time, called, trace.wrap("clock", f"time.{called}", real, fake, direct=direct))
    for name, before in CALENDAR.items():
        real = getattr(time, name)

        def at(shifted: bool, *arguments: Any, real: Any = real, before: int = before) -> Any:
            now = clock.wall(shifted)
            return real(*arguments[:before], time.localtime(now) if before else now)

        def now_is_meant(*arguments: Any, before: int = before) -> bool:
            return len(arguments) <= before or arguments[before] is None

        setattr(time, name, trace.wrap("clock", f"time.{name}", real, at, now_is_meant))
    if real_generate := getattr(uuid, "_generate_time_safe", None):

        def by_time(shifted: bool) -> tuple[bytes, None]:
            return int(clock.wall(shifted) * 1e7).to_bytes(16, "big"), None

        _install(uuid, "_generate_time_safe", trace.wrap("clock", "uuid.uuid1", real_generate, by_time))
    real_sleep = time.sleep

    def sleep(seconds: float) -> None:
        real_sleep(seconds)
        clock.passed_seconds += seconds

    _install(time, "sleep", sleep)


def _replace_calendar(trace: Any, clock: _Clock) -> None:
    """Replace datetime.datetime and datetime.date, whose methods Python does not allow to set.

    Subclasses would be easier, but pandas' C code needs the original ones.
    """

    def now(shifted: bool, cls: Any, tz: Any = None) -> Any:
        return cls.fromtimestamp(clock.wall(shifted), tz)

    def today(shifted: bool, cls: Any) -> Any:
        return cls.fromtimestamp(clock.wall(shifted))

    def utcnow(shifted: bool, cls: Any) -> Any:
        return cls.fromtimestamp(clock.wall(shifted), UTC).replace(tzinfo=None)

    methods = {
        datetime.datetime: {"now": now, "today": today, "utcnow": utcnow},
        datetime.date: {"today": today},
    }
    with contextlib.suppress(Exception):  # another implementation of Python
        import ctypes

        for kind, fakes in methods.items():
            (namespace,) = gc.get_referents(kind.__dict__)
            for name, fake in fakes.items():
                real = kind.__dict__.get(name) or vars(datetime.date)[name]

                def call(cls: type, *arguments: Any, real: Any = real, **keywords: Any) -> Any:
                    return real.__get__(None, cls)(*arguments, **keywords)

                called = f"datetime.{kind.__name__}.{name}"
                namespace[name] = classmethod(trace.wrap("clock", called, call, fake))
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def _replace_entropy(trace: Any) -> None:
    streams = random.Random(20), random.Random(21)

    def data(shifted: bool, size: int = 32, *_flags: Any) -> bytes:
        drawn = [stream.randbytes(size) for stream in streams]  # both: the next call is then unchanged
        return drawn[shifted]

    urandom = trace.wrap("entropy", "os.urandom", os.urandom, data)
    _install(os, "urandom", urandom)
    _install(random, "_urandom", urandom)
    if hasattr(os, "getrandom"):
        os.getrandom = trace.wrap("entropy", "os.getrandom", os.getrandom, data)
    seed = random.Random.seed

    def seeded(shifted: bool, self: random.Random, _a: Any = None, _version: int = 2) -> None:
        seed(self, int.from_bytes(data(shifted), "big"))

    def unseeded(_self: random.Random, a: Any = None, _version: int = 2) -> bool:
        return a is None

    _install(random.Random, "seed", trace.wrap("entropy", "random.Random", seed, seeded, unseeded))
    random.seed = random._inst.seed


def _replace_identity(trace: Any) -> None:
    main = os.getpid()
    numbers: dict[int, int] = {}

    def process(shifted: bool) -> int:
        return NO_PROCESS + 4242 + 1111 * shifted

    def address(shifted: bool, value: object) -> int:
        number = numbers.setdefault(real_id(value), len(numbers) + 1)
        return 0x7F0000000000 + 48 * number * (5 if shifted else 1)

    def thread(shifted: bool) -> int:
        return address(shifted, threading.current_thread())

    real_id = builtins.id
    builtins.id = trace.wrap("process", "id", real_id, address, direct=True)
    os.getpid = trace.wrap("process", "os.getpid", os.getpid, process, lambda: real_pid() == main)
    os.getppid = trace.wrap("process", "os.getppid", os.getppid, process)
    for name in ("get_ident", "get_native_id"):
        if hasattr(threading, name):
            wrapped = trace.wrap(
                "process", f"threading.{name}", getattr(threading, name), thread, direct=True
            )
            setattr(threading, name, wrapped)


real_pid = os.getpid


def _replace_generators(trace: Any) -> None:
    """Replace the global generators until the model seeds them: only for tracing."""
    _replace_generator(trace, "random", random, random._inst, "setstate")
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random:
        _replace_generator(trace, "numpy.random", numpy_random, numpy_random.mtrand._rand, "set_state")
        unseeded = trace.wrap(
            "entropy",
            "numpy.random.default_rng",
            numpy_random.default_rng,
            when=lambda seed=None: seed is None,
        )
        numpy_random.default_rng = unseeded


def _replace_generator(trace: Any, called: str, module: Any, generator: Any, restore: str) -> None:
    seeded = []
    for name in dir(module):
        method = getattr(module, name)
        if getattr(method, "__self__", None) is not generator or name.startswith(
            ("_", "get_state", "getstate")
        ):
            continue
        if name in ("seed", restore):

            def seeds(*arguments: Any, method: Any = method, **keywords: Any) -> Any:
                if any(argument is not None for argument in (*arguments, *keywords.values())):
                    seeded.append(True)
                return method(*arguments, **keywords)

            setattr(module, name, seeds)
        else:
            setattr(
                module,
                name,
                trace.wrap("random", f"{called}.{name}", method, when=lambda *_, **__: not seeded),
            )


def _replace_threads(trace: Any) -> None:
    if trace.frozen:
        sys.setswitchinterval(1e-6 if trace.shifts("threads") else 1.0)
    start = trace.wrap("threads", "threading.Thread.start", threading.Thread.start)
    _install(threading.Thread, "start", start)


def _install(holder: Any, name: str, replacement: Any) -> None:
    """Set a function of a module or a method of a class, which type checkers consider constant."""
    setattr(holder, name, replacement)
