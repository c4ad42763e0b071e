"""Who in this process asks a clock, for entropy, for an identity, or reads and writes files: notes and sites.

    Trace(bundle) -> wrap(kind, call, real, fake) for each source, by replaced.py; audit() -> uses, written

A site is the nearest line of the bundle that led to a call. When frozen, fake(shifted, ...) answers instead
of real(...): `shifted` is whether the kind of this call, or its site, is to have the other answer.
Does not know which names are sources: replaced.py does.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from modelops_dask.diagnose.inside import drawn

OURS = os.path.abspath(os.path.join(__file__, "..", "..", "..")) + os.sep  # the engine: runner.py, too
STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
PACKAGES = ("/site-packages/", "/dist-packages/")
KEPT_BYTES, KEPT_FILES = 1 << 20, 50  # of a file from before the model wrote it; how many files
OUTSIDE = ("files", "network", "programs")  # what they are called with says more than who was called
HARMLESS = ("tempfile.gettempdir",)  # tries a random name
STEADY = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/share/zoneinfo/", sys.prefix + os.sep, STANDARD, OURS)
# A clock that C code reads itself: found in the text of the bundle's modules.
UNSEEN = re.compile(r"(datetime64|to_datetime)\(\s*['\"](now|today)['\"]")


class Trace:
    """What was noted in this process. frozen, shifted: as in probe.Ask."""

    def __init__(self, bundle: str, frozen: bool, shifted: str) -> None:
        self.frozen, self._shifted = frozen, shifted
        self._bundles = tuple({os.path.join(bundle, ""), os.path.join(os.path.realpath(bundle), "")})
        self._kept = *self._bundles, os.path.join(tempfile.gettempdir(), "")
        self._uses: collections.Counter = collections.Counter()
        self._written: dict[str, bytes | None] = {}
        self._now = threading.local()  # .shifted of the source that is being asked; absent: none is

    def uses(self) -> list[tuple[str, str, str, int, int]]:
        """(kind, call, file within the bundle, line, times); by kind, then by line."""
        for module in list(sys.modules.values()):
            file = str(getattr(module, "__file__", None) or "")
            if where := self._within(file):
                for number, line in enumerate(_lines(file), 1):
                    if found := UNSEEN.search(line):
                        self._uses["clock", f"{found[1]}({found[2]!r})", where, number] += 1
        return sorted((*key, times) for key, times in self._uses.items())

    def written(self) -> dict[str, bytes | None]:
        """Files and folders in the bundle's and the temporary folder that the model made or changed: their
        contents before, None where there was nothing.
        """
        return dict(self._written)

    def wrap(
        self,
        kind: str,
        call: str,
        real: Callable,
        fake: Callable | None = None,
        when: Callable[..., bool] | None = None,
        direct: bool = False,
    ) -> Callable:
        """A function in place of real. when(...): whether a call is one for chance; direct: only a call by a
        line of the bundle itself is.
        """

        def source(*given: Any, **named: Any) -> Any:
            counts = when is None or when(*given, **named)
            if not counts or (direct and not self._within(sys._getframe(1).f_code.co_filename)):
                return real(*given, **named)
            inside = hasattr(self._now, "shifted")  # part of another source: secrets of os.urandom
            if not inside:
                self._now.shifted = self.note(kind, call)
            try:
                if self.frozen and fake:
                    return fake(self._now.shifted, *given, **named)
                return real(*given, **named)
            finally:
                if not inside:
                    del self._now.shifted

        source.__name__ = source.__qualname__ = getattr(real, "__name__", call)
        source.__module__ = getattr(real, "__module__", None)
        return source

    def shifts(self, kind: str) -> bool:
        """Whether all calls of this kind are to have the other answer."""
        return self._shifted == kind

    def note(self, kind: str, call: str) -> bool:
        """Count a use by the code that is running; whether it is to have the other answer."""
        site = self._site()
        if site and site[0] not in HARMLESS:
            called, file, line = site
            shown = call if kind in OUTSIDE else called or call
            self._uses[kind, shown, file, line] += 1
            if self._shifted == f"{kind}@{file}:{line}":
                return True
        return self.shifts(kind)

    def watch_lines(self) -> None:
        """Note the lines that draw from the global generators."""

        def note(generator: str, file: str, line: int) -> None:
            self._uses["random", f"{generator}: global generator", file, line] += 1

        drawn.Lines(self._within, note).start()

    def audit(self, event: str, arguments: tuple) -> None:
        """For sys.addaudithook: files, connections, programs."""
        if event not in EVENTS or hasattr(self._now, "shifted"):
            return
        self._now.shifted = False  # what follows here is not the model's
        try:
            EVENTS[event](self, arguments)
        except Exception:  # never the model's trouble
            return
        finally:
            with contextlib.suppress(AttributeError):
                del self._now.shifted

    def _site(self) -> tuple[str, str, int] | None:
        """(what the line called, "" for C code; its file; its number); None: no line of the bundle led here.

        What a package does while it is imported is not the line's doing. A model that is itself an installed
        package has no line in the bundle: then the nearest line of a package is taken.
        """
        frame, called, package = sys._getframe(2), "", None
        while frame is not None:
            file = frame.f_code.co_filename
            if where := self._within(file):
                return called, where, frame.f_lineno
            if file.startswith("<frozen importlib"):
                return None
            if not file.startswith((OURS, "<")):
                if package is None and any(part in file for part in PACKAGES):
                    package = called, file.rpartition("-packages/")[2], frame.f_lineno
                name = frame.f_code.co_name
                if name == "__init__":
                    name = type(frame.f_locals.get("self")).__name__
                called = f"{frame.f_globals.get('__name__', '?')}.{name}"
            frame = frame.f_back
        return package

    def _within(self, file: str) -> str:
        """A file's path within the bundle, "" if it is not in there."""
        for prefix in self._bundles:
            if file.startswith(prefix) and not any(part in file for part in PACKAGES):
                return file[len(prefix) :]
        return ""

    def _open(self, arguments: tuple) -> None:
        path, mode, flags = arguments
        if not isinstance(path, (str, bytes)):
            return
        path = os.path.abspath(os.fsdecode(path))
        writes = any(letter in (mode or "") for letter in "wax+") or bool(
            (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        )
        if path in ("/dev/urandom", "/dev/random"):
            self.note("entropy", f"read {path}")
        elif path.startswith(STEADY) or path.endswith(".pyc"):
            return
        elif writes:
            self._write(path)
        elif path in self._written or not self._within(path):
            self.note("files", f"read {self._within(path) or path}")

    def _write(self, path: str) -> None:
        # Elsewhere others may write the same file, and to put it back would undo their work.
        if path.startswith(self._kept) and path not in self._written and len(self._written) < KEPT_FILES:
            before = content(path)
            if before is not None or not os.path.lexists(path):
                self._written[path] = before
        self.note("files", f"write {self._within(path) or path}")


def restore(contents: dict[str, bytes | None]) -> None:
    """Files as they were, from Trace.written(); no file, and no empty folder, where content is None."""
    for path, content in reversed(list(contents.items())):  # what is in a folder before the folder
        with contextlib.suppress(OSError):
            if content is None:
                (os.rmdir if os.path.isdir(path) else os.unlink)(path)
            else:
                with open(path, "wb") as file:
                    file.write(content)


def content(path: str) -> bytes | None:
    """What is in a file; None where there is none, or too much."""
    try:
        if os.path.getsize(path) > KEPT_BYTES:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _lines(file: str) -> list[str]:
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return text.readlines()
    except OSError:
        return []


EVENTS: dict[str, Callable[[Trace, tuple], object]] = {
    "open": Trace._open,
    "os.remove": lambda trace, given: trace._write(os.path.abspath(os.fsdecode(given[0]))),
    "os.mkdir": lambda trace, given: trace._write(os.path.abspath(os.fsdecode(given[0]))),
    "os.rename": lambda trace, given: trace._write(os.path.abspath(os.fsdecode(given[1]))),
    "sqlite3.connect": lambda trace, given: trace._write(os.path.abspath(os.fsdecode(given[0]))),
    "socket.connect": lambda trace, given: trace.note("network", f"connect {given[1]}"),
    "subprocess.Popen": lambda trace, given: trace.note("programs", f"run {given[0]}"),
    "os.fork": lambda trace, _given: trace.note("programs", "os.fork"),
    "os.system": lambda trace, given: trace.note("programs", f"os.system {given[0]!r}"),
}
