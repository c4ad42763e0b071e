"""The process of a probe: it runs tasks one after another, and reports what the request asks for.

    python main.py SOCKET LIFELINE BUNDLE WIRE SEED_GLOBALS SOURCE RESEEDS
    (calls, request) -> ready -> an answer and the resident memory for each task -> the requested report

It is a runner with a longer report: its functions, messages and end are executors/runner.py's. probe.py
limits its time.
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

ENGINE = os.path.abspath(os.path.join(__file__, "..", "..", "..", ".."))
NO_RANDOM_ADDRESSES = 0x0040000  # personality(2): objects are then at the same addresses in every process
AGAIN = "MODELOPS_PROBE_AGAIN"


def _import_engine(*names: str) -> list[Any]:
    """Modules of the engine, by name. None stays in sys.modules, because the model may have its own
    engine.
    """
    for name in (
        "",
        ".executors",
        ".diagnose",
        ".diagnose.trials",
        ".diagnose.trials.inside",
    ):  # without what their __init__ loads
        package = sys.modules[f"modelops_dask{name}"] = types.ModuleType(f"modelops_dask{name}")
        package.__path__ = [ENGINE + name.replace(".", os.sep)]
    modules = [importlib.import_module(f"modelops_dask.{name}") for name in names]
    for name in [name for name in sys.modules if name.partition(".")[0] == "modelops_dask"]:
        del sys.modules[name]
    return modules


def main(socket_fd: int, lifeline_fd: int, bundle: str, reference: str, *, seeds: bool, reseeds: bool) -> int:
    """Run the calls of the request on the socket, report what it asks for, and end."""
    calls, request = _read_request(socket_fd)
    (messages,) = _import_engine("executors.messages")
    if request["frozen"] and request["shifted"] != "process":
        _fix_addresses(messages, (socket_fd, lifeline_fd))
    os.environ.pop(AGAIN, None)
    # two processes are compared: the second must not read bytecode compiled by the first
    if request["frozen"]:
        sys.dont_write_bytecode = True
    (runner,) = _import_engine("executors.runner")
    connection, output = runner.begin(socket_fd, lifeline_fd, bundle)

    def send(*message: Any, contents: list[bytes] = []) -> None:  # noqa: B006 (never changed)
        output.flush()
        connection.send_frame(messages.pack(messages.START, json.dumps(message), *contents))

    if request["reverses_listings"]:
        (listings,) = _import_engine("diagnose.trials.inside.listings")
        listings.reverse_listings()
    trace: Any = None
    changes: Any = None
    if request["trace"] or request["frozen"]:
        tracing, chance_sources = _import_engine(
            "diagnose.trials.inside.tracing", "diagnose.trials.inside.chance_sources"
        )
        tracing.restore_files(request["files"])
        trace = tracing.Trace(bundle, request["frozen"], request["shifted"])
        chance_sources.replace_sources(trace)
    if request["frozen"]:
        runner.seeding.seed_globals(4242 + (request["shifted"] == "random"))
    try:
        wire, generators = runner.load_model(bundle, reference, seeds, reseeds)
    except BaseException as error:
        send("failed")
        connection.send(messages.START, runner.failed_answer(error))
        return 1
    if request["lines"]:
        trace.watch_lines()
    memory = runner.make_meter(wire, runner.Peak())

    def call(task_call: tuple) -> Any:
        if seeds:
            runner.seeding.seed_globals(task_call[2])
        if generators:
            generators.seed(task_call[2])
        memory.lift()  # each is measured: the duration of a task must not affect later allocations
        return runner.call(wire, *task_call, memory)

    send("ready")
    if request["memory"]:
        gc.freeze()  # objects from the import are not traversed after each task
    if request["changes"]:
        (changes_module,) = _import_engine("diagnose.trials.inside.changes")
        changes = changes_module.Changes(bundle, lambda: call(calls[-1]), request["seconds"])
    for number, task_call in enumerate(calls, 1):
        if changes and number == len(calls):
            send("changes", changes.list_changes())
        answer = call(task_call)
        connection.hold()
        if request["memory"]:
            _release_memory()
        resident_bytes = _read_resident_bytes() or runner.maxrss_bytes()
        if request["frozen"]:
            # Texts of figures, with varying length, would change the addresses of later objects.
            resident_bytes, answer = 0, answer._replace(seconds=0.0, peak_bytes=0)
        send("answer", resident_bytes)
        connection.send(messages.START, answer)
    files_before = trace.files_before() if trace else {}
    lengths = [(path, None if content is None else len(content)) for path, content in files_before.items()]
    contents = [content for content in files_before.values() if content]
    send("end", trace.list_uses() if trace else [], lengths, contents=contents)
    return 0


def _read_request(socket_fd: int) -> tuple[list[tuple], dict]:
    connection = socket.socket(fileno=socket_fd)
    stream = connection.makefile("rb")
    size = int.from_bytes(stream.read(8), "big")
    request = pickle.loads(stream.read(size))
    stream.close()
    connection.detach()
    return request


def _fix_addresses(messages: Any, keep: tuple[int, ...]) -> None:
    """Restart without random addresses, if that is allowed; the request is then sent again."""
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
    connection.sendall(b"".join(messages.pack(messages.START, '["again"]')))
    os.execv(sys.executable, [sys.executable, "-s", *sys.argv])


def _release_memory() -> None:
    """Collect garbage, and release the allocator's free memory: the rest is in use."""
    gc.collect()
    with contextlib.suppress(Exception):  # not glibc
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


def _read_resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(
        main(
            int(sys.argv[1]),
            int(sys.argv[2]),
            sys.argv[3],
            sys.argv[4],
            seeds=sys.argv[5] == "1",
            reseeds=sys.argv[7] == "1",
        )
    )
