"""The process of a probe: runs tasks one after another, and looks at itself as it was asked to.

    python main.py SOCKET LIFELINE BUNDLE WIRE SEED_GLOBALS
    (calls, ask) -> ready -> an answer and the resident memory for each task -> what was asked for

A runner with more to say: its functions, messages and end are executors/runner.py's. Does not limit its time:
probe.py does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pickle
import socket
import sys
import types
from typing import Any

ENGINE = os.path.abspath(os.path.join(__file__, "..", "..", ".."))
NO_RANDOM_ADDRESSES = 0x0040000  # personality(2): objects are then at the same addresses in every process
AGAIN = "MODELOPS_PROBE_AGAIN"


def _ours(*names: str) -> list[Any]:
    """Modules of the engine, by their names; afterwards no trace of it, for the model may have its own."""
    for name in ("", ".executors", ".diagnose", ".diagnose.inside"):  # without what their __init__ loads
        package = sys.modules[f"modelops_dask{name}"] = types.ModuleType(f"modelops_dask{name}")
        package.__path__ = [ENGINE + name.replace(".", os.sep)]
    found = [importlib.import_module(f"modelops_dask.{name}") for name in names]
    for name in [name for name in sys.modules if name.partition(".")[0] == "modelops_dask"]:
        del sys.modules[name]
    return found


def main(socket_fd: int, lifeline_fd: int, bundle: str, reference: str, seeds: bool) -> int:
    """Do what is asked, and end."""
    calls, ask = _request(socket_fd)
    (messages,) = _ours("executors.messages")
    if ask["frozen"] and ask["shifted"] != "process":
        _fix_addresses(messages, (socket_fd, lifeline_fd))
    os.environ.pop(AGAIN, None)
    (runner,) = _ours("executors.runner")
    connection, output = runner.begin(socket_fd, lifeline_fd, bundle)

    def say(*message: Any, contents: list[bytes] = []) -> None:  # noqa: B006 (never changed)
        output.flush()
        connection.send_frame(messages.packed(messages.START, json.dumps(message), *contents))

    trace = changes = None
    if ask["trace"] or ask["frozen"]:
        tracing, replaced = _ours("diagnose.inside.tracing", "diagnose.inside.replaced")
        tracing.restore(ask["files"])
        trace = tracing.Trace(bundle, ask["frozen"], ask["shifted"])
        replaced.replace(trace)
    if ask["frozen"]:
        runner.seeding.seed_globals(4242 + (ask["shifted"] == "random"))
    try:
        wire = runner.load_model(bundle, reference, seeds)
    except BaseException as error:
        say("failed")
        connection.send(messages.START, runner.failed(error))
        return 1
    if ask["lines"]:
        trace.watch_lines()
    memory = runner.Memory(runner.Peak())

    def call(one: tuple) -> Any:
        if seeds:
            runner.seeding.seed_globals(one[2])
        memory.lift()  # each is measured: how long a task took must not decide what is allocated after it
        return runner.call(wire, *one, memory)

    say("ready")
    if ask["memory"]:
        gc.freeze()  # what the import made is not looked through after each task
    if ask["changes"]:
        (undoing,) = _ours("diagnose.inside.undoing")
        changes = undoing.Changes(bundle, lambda: call(calls[-1]), ask["seconds"])
    for number, one in enumerate(calls, 1):
        if changes and number == len(calls):
            say("changes", changes.found())
        answer = call(one)
        connection.hold()
        if ask["memory"]:
            _release()
        resident_bytes = _resident_bytes() or runner.maxrss_bytes()
        if ask["frozen"]:
            # Texts of figures, of another length each time, would move the addresses of what comes after.
            resident_bytes, answer = 0, answer._replace(seconds=0.0, peak_bytes=0)
        say("answer", resident_bytes)
        connection.send(messages.START, answer)
    written = trace.written() if trace else {}
    lengths = [(path, None if data is None else len(data)) for path, data in written.items()]
    say("end", trace.uses() if trace else [], lengths, contents=[data for data in written.values() if data])
    return 0


def _request(socket_fd: int) -> tuple[list[tuple], dict]:
    connection = socket.socket(fileno=socket_fd)
    stream = connection.makefile("rb")
    size = int.from_bytes(stream.read(8), "big")
    request = pickle.loads(stream.read(size))
    stream.close()
    connection.detach()
    return request


def _fix_addresses(messages: Any, keep: tuple[int, ...]) -> None:
    """Begin again without random addresses, where that is allowed; the request is then sent again."""
    if AGAIN in os.environ:
        return
    os.environ[AGAIN] = "1"
    with contextlib.suppress(Exception):
        import ctypes

        personality = ctypes.CDLL(None).personality
        personality(personality(0xFFFFFFFF) | NO_RANDOM_ADDRESSES)
    for descriptor in keep:
        os.set_inheritable(descriptor, True)
    connection = socket.socket(fileno=keep[0])
    connection.sendall(b"".join(messages.packed(messages.START, '["again"]')))
    os.execv(sys.executable, [sys.executable, "-s", *sys.argv])


def _release() -> None:
    """Collect garbage, and give back what the allocator keeps: what stays is held by somebody."""
    gc.collect()
    with contextlib.suppress(Exception):  # no glibc
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5] == "1"))
