"""Progress on standard error: one line on a terminal, plain lines elsewhere, JSON for programs.

Phase, Progress (of the engine) -> Bar, ProgressLines or JsonLines

All three take the same calls: phase(...), stage(...), progress(...), say(...), close().
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeGuard

from modelops_dask.errors import MopsError
from modelops_dask.shape import MIB

if TYPE_CHECKING:
    from modelops_dask.study.drive import Watcher
    from modelops_dask.study.progress import Phase, Progress

ProgressFormat = Literal["auto", "json"]  # of --progress
LINE_SECONDS = 10
JSON_SECONDS = 1
PHASES = {
    "workers": "Starting workers",
    "environment": "Preparing the model's environment",
    "canary": "Trying one task per worker",
    "running": "Running",
    "checking": "Checking a few tasks",
    "compacting": "Writing the tables",
}


class ProgressLines:
    """A line when a phase begins, for every tenth of the tasks, and after ten seconds without one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tenth = 0
        self._last_line = time.monotonic()

    def phase(self, phase: "Phase") -> None:
        self.say(PHASES[phase])

    def stage(self, text: str) -> None:
        if time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"  {text}")

    def progress(self, progress: "Progress") -> None:
        tenth = 10 * progress.done // progress.total
        now = time.monotonic()
        if tenth == self._tenth and now - self._last_line < LINE_SECONDS:
            return
        self._tenth, self._last_line = tenth, now
        self.say(describe_progress(progress))

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        pass


class Bar:
    """One line that is redrawn: phase, bar, and the text of a line of ProgressLines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None
        self._has_stage = False

    def phase(self, phase: "Phase") -> None:
        if phase == "compacting":
            self.close()
        if self._bar is None and phase != "running":
            self.say(PHASES[phase])

    def stage(self, text: str) -> None:
        if self._bar is None:
            columns = os.get_terminal_size(self._stream.fileno()).columns
            print(f"\r\033[K{text[: columns - 1]}", end="", file=self._stream, flush=True)
            self._has_stage = True

    def _end_stage(self) -> None:
        if self._has_stage:
            print("\r\033[K", end="", file=self._stream, flush=True)
            self._has_stage = False

    def progress(self, progress: "Progress") -> None:
        from tqdm import tqdm

        self._end_stage()
        if self._bar is None:
            self._bar = tqdm(
                total=progress.total,
                initial=progress.done,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar:20}| {desc}",
                desc=describe_progress(progress),
            )
        self._bar.set_description_str(describe_progress(progress), refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if progress.done == progress.total:
            self.close()

    def say(self, text: str) -> None:
        self._end_stage()
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def close(self) -> None:
        self._end_stage()
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None


class JsonLines:
    """One object per line, with `event`: phase, stage (of it), progress (one per second, and the last),
    message or error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_line = -math.inf

    def phase(self, phase: "Phase") -> None:
        self._put("phase", phase=phase)

    def stage(self, text: str) -> None:
        self._put("stage", text=text)

    def progress(self, progress: "Progress") -> None:
        now = time.monotonic()
        if now - self._last_line >= JSON_SECONDS or progress.done == progress.total:
            self._last_line = now
            self._put("progress", **progress_fields(progress))

    def say(self, text: str) -> None:
        self._put("message", text=text)

    def error(self, error: MopsError) -> None:
        self._put("error", text=str(error), exit_code=error.exit_code)

    def close(self) -> None:
        pass

    def _put(self, event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), file=self._stream, flush=True)


Reporter = Bar | ProgressLines | JsonLines


def is_phase(name: str) -> "TypeGuard[Phase]":
    """Whether this version knows a phase reported by a driver, possibly of another version."""
    return name in PHASES


def watch_with(reporter: Reporter) -> "Watcher":
    """A Watcher of the engine that passes everything to a Reporter."""
    from modelops_dask.study.drive import Watcher

    return Watcher(
        reporter.phase, reporter.progress, reporter.say, stage=reporter.stage, announce=reporter.say
    )


@contextmanager
def report_progress(stream: TextIO, progress_format: ProgressFormat) -> Iterator[Reporter]:
    """The Reporter of a format: `json`, or for `auto` one that suits the stream.

    With json an error is also a line, and the command ends there.
    """
    reporter = JsonLines(stream) if progress_format == "json" else choose_reporter(stream)
    try:
        yield reporter
    except MopsError as error:
        if not isinstance(reporter, JsonLines):
            raise
        reporter.error(error)
        sys.exit(error.exit_code)
    finally:
        reporter.close()


def choose_reporter(stream: TextIO) -> Bar | ProgressLines:
    """A Reporter that suits the stream: no bar without a terminal of known size."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return ProgressLines(stream)
    return Bar(stream) if size.columns and size.lines else ProgressLines(stream)


def describe_progress(progress: "Progress") -> str:
    """One line: done, failed, poisoned, rate, remaining time, memory."""
    clauses = [f"{progress.done:,} of {progress.total:,} tasks done"]
    if progress.failed:
        clauses.append(f"{progress.failed:,} failed")
    if progress.poisoned:
        clauses.append(f"{progress.poisoned:,} poisoned")
    if progress.rate:
        clauses.append(format_rate(progress.rate))
    if progress.eta_seconds:
        clauses.append(f"{format_duration(progress.eta_seconds)} to go")
    if progress.peak_bytes:
        clauses.append(f"up to {progress.peak_bytes / MIB:,.0f} MiB a task")
    return ", ".join(clauses)


def progress_fields(progress: "Progress") -> dict[str, Any]:
    """The same for programs, in seconds and bytes."""
    eta = progress.eta_seconds
    return {
        "total": progress.total,
        "done": progress.done,
        "ok": progress.ok,
        "failed": progress.failed,
        "poisoned": progress.poisoned,
        "workers": progress.workers,
        "peak_bytes": progress.peak_bytes,
        "seconds": round(progress.seconds, 3),
        "tasks_per_second": round(progress.rate, 3),
        "eta_seconds": None if eta is None else round(eta, 1),
    }


def format_rate(rate: float) -> str:
    """Tasks per second: 1,204 a second, 0.25 a second."""
    return f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.2g} a second"


def format_duration(seconds: float) -> str:
    """Seconds for people: 14 ms, 890 ms, 2.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    milliseconds = float(f"{seconds * 1000:.2g}")  # two digits: 0.998 s is 1.0 s
    if milliseconds < 1000:
        return f"{milliseconds:g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
