"""Uses of clocks, entropy, identities and files in this process: records and sites.

    Trace(bundle) -> wrap(kind, call, real, fake) for each source (chance_sources.py), audit() -> uses,
    files that the model wrote

A site is the nearest line of the bundle that led to a call. When frozen, fake(shifted, ...) answers instead
of real(...): `shifted` is whether the kind of this call, or its site, has the other answer. chance_sources.py
lists the sources.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from typing import Any

from modelops_dask.diagnose.trials.inside import line_watch

ENGINE = (
    os.path.abspath(os.path.join(__file__, "..", "..", "..", "..")) + os.sep
)  # the engine, including runner.py
STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
PACKAGES = ("/site-packages/", "/dist-packages/")
KEPT_BYTES, KEPT_FILES = 1 << 20, 50  # bytes of a file from before the model wrote it; number of files
OUTSIDE = ("files", "network", "programs")  # calls whose arguments are more informative than their names
HARMLESS = ("tempfile.gettempdir",)  # tries a random name
STEADY = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/share/zoneinfo/", sys.prefix + os.sep, STANDARD, ENGINE)
# A clock that C code reads itself: found in the text of the bundle's modules.
UNSEEN = re.compile(r"(datetime64|to_datetime)\(\s*['\"](now|today)['\"]")


class Trace:
    """The records of this process. frozen, shifted: as in ProbeRequest."""

    def __init__(self, bundle: str, frozen: bool, shifted: str) -> None:
        self.frozen, self._shifted = frozen, shifted
        self._bundles = tuple({os.path.join(bundle, ""), os.path.join(os.path.realpath(bundle), "")})
        self._restorable = *self._bundles, os.path.join(tempfile.gettempdir(), "")
        self._uses: collections.Counter = collections.Counter()
        self._files_before: dict[str, bytes | None] = {}
        self._now = threading.local()  # .shifted of the current source; absent: none

    def list_uses(self) -> list[tuple[str, str, str, int, int]]:
        """(kind, call, file within the bundle, line, times); by kind, then by line."""
        for module in list(sys.modules.values()):
            file = str(getattr(module, "__file__", None) or "")
            if path_in_bundle := self._path_in_bundle(file):
                for number, line in enumerate(_read_lines(file), 1):
                    if match := UNSEEN.search(line):
                        self._uses["clock", f"{match[1]}({match[2]!r})", path_in_bundle, number] += 1
        return sorted((*key, times) for key, times in self._uses.items())

    def files_before(self) -> dict[str, bytes | None]:
        """Files and folders in the bundle's and the temporary folder that the model created or changed.

        Returns their contents before, None for new ones.
        """
        return dict(self._files_before)

    def wrap(
        self,
        kind: str,
        call: str,
        real: Callable[..., Any],
        fake: Callable[..., Any] | None = None,
        when: Callable[..., bool] | None = None,
        *,
        direct: bool = False,
    ) -> Callable[..., Any]:
        """A function that replaces real() and counts its uses.

        when(...) returns whether a call is random. direct: only calls by a line of the bundle count.
        """

        def source(*arguments: Any, **keywords: Any) -> Any:
            counts = when is None or when(*arguments, **keywords)
            if not counts or (direct and not self._path_in_bundle(sys._getframe(1).f_code.co_filename)):
                return real(*arguments, **keywords)
            inside = hasattr(self._now, "shifted")  # part of another source: secrets of os.urandom
            if not inside:
                self._now.shifted = self.note(kind, call)
            try:
                if self.frozen and fake:
                    return fake(self._now.shifted, *arguments, **keywords)
                return real(*arguments, **keywords)
            finally:
                if not inside:
                    del self._now.shifted

        wrapper: Any = source  # its __module__ may be None, as a C function's is
        wrapper.__name__ = wrapper.__qualname__ = getattr(real, "__name__", call)
        wrapper.__module__ = getattr(real, "__module__", None)
        return wrapper

    def shifts(self, kind: str) -> bool:
        """Whether all calls of this kind have the other answer."""
        return self._shifted == kind

    def note(self, kind: str, call: str) -> bool:
        """Count a use by the running code; return whether it has the other answer."""
        site = self._find_site()
        if site and site[0] not in HARMLESS:
            called, file, line = site
            call_name = call if kind in OUTSIDE else called or call
            self._uses[kind, call_name, file, line] += 1
            if self._shifted == f"{kind}@{file}:{line}":
                return True
        return self.shifts(kind)

    def watch_lines(self) -> None:
        """Record the lines that draw from the global generators."""

        def note(generator: str, file: str, line: int) -> None:
            self._uses["random", f"{generator}: global generator", file, line] += 1

        line_watch.LineWatch(self._path_in_bundle, note).start()

    def audit(self, event: str, arguments: tuple) -> None:
        """For sys.addaudithook: files, connections, programs."""
        if event not in EVENTS or hasattr(self._now, "shifted"):
            return
        self._now.shifted = False  # later events do not come from the model
        try:
            EVENTS[event](self, arguments)
        except Exception:  # must never affect the model
            return
        finally:
            with contextlib.suppress(AttributeError):
                del self._now.shifted

    def _find_site(self) -> tuple[str, str, int] | None:
        """(what the line called, "" for C code; its file; its number); None: no line of the bundle led here.

        Actions of a package while it is imported are not attributed to the line. A model that is itself an
        installed package has no line in the bundle: then the nearest line of a package is used.
        """
        frame: types.FrameType | None = sys._getframe(2)
        called = ""
        package: tuple[str, str, int] | None = None
        while frame is not None:
            file = frame.f_code.co_filename
            if path_in_bundle := self._path_in_bundle(file):
                return called, path_in_bundle, frame.f_lineno
            if file.startswith("<frozen importlib"):
                return None
            if not file.startswith((ENGINE, "<")):
                if package is None and any(part in file for part in PACKAGES):
                    package = called, file.rpartition("-packages/")[2], frame.f_lineno
                name = frame.f_code.co_name
                if name == "__init__":
                    name = type(frame.f_locals.get("self")).__name__
                called = f"{frame.f_globals.get('__name__', '?')}.{name}"
            frame = frame.f_back
        return package

    def _path_in_bundle(self, file: str) -> str:
        """A file's path within the bundle, "" if it is outside."""
        for prefix in self._bundles:
            if file.startswith(prefix) and not any(part in file for part in PACKAGES):
                return file[len(prefix) :]
        return ""

    def _note_open(self, arguments: tuple) -> None:
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
            self._note_write(path)
        elif path in self._files_before or not self._path_in_bundle(path):
            self.note("files", f"read {self._path_in_bundle(path) or path}")

    def _note_write(self, path: str) -> None:
        # Elsewhere others may write the same file, and restoring it would undo their work.
        is_new = path not in self._files_before and len(self._files_before) < KEPT_FILES
        if is_new and path.startswith(self._restorable):
            before = read_content(path)
            if before is not None or not os.path.lexists(path):
                self._files_before[path] = before
        self.note("files", f"write {self._path_in_bundle(path) or path}")


def restore_files(contents: dict[str, bytes | None]) -> None:
    """Restore files as Trace.files_before() returned them; no file or an empty folder if content is None."""
    for path, content in reversed(list(contents.items())):  # the contents of a folder before the folder
        with contextlib.suppress(OSError):
            if content is None:
                (os.rmdir if os.path.isdir(path) else os.unlink)(path)
            else:
                with open(path, "wb") as file:
                    file.write(content)


def read_content(path: str) -> bytes | None:
    """The content of a file; None if it does not exist or is too large."""
    try:
        if os.path.getsize(path) > KEPT_BYTES:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _read_lines(file: str) -> list[str]:
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return text.readlines()
    except OSError:
        return []


EVENTS: dict[str, Callable[[Trace, tuple], object]] = {
    "open": Trace._note_open,
    "os.remove": lambda trace, arguments: trace._note_write(os.path.abspath(os.fsdecode(arguments[0]))),
    "os.mkdir": lambda trace, arguments: trace._note_write(os.path.abspath(os.fsdecode(arguments[0]))),
    "os.rename": lambda trace, arguments: trace._note_write(os.path.abspath(os.fsdecode(arguments[1]))),
    "sqlite3.connect": lambda trace, arguments: trace._note_write(os.path.abspath(os.fsdecode(arguments[0]))),
    "socket.connect": lambda trace, arguments: trace.note("network", f"connect {arguments[1]}"),
    "subprocess.Popen": lambda trace, arguments: trace.note("programs", f"run {arguments[0]}"),
    "os.fork": lambda trace, _given: trace.note("programs", "os.fork"),
    "os.system": lambda trace, arguments: trace.note("programs", f"os.system {arguments[0]!r}"),
}
