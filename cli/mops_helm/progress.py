"""Progress on standard error: a bar on a terminal, plain lines elsewhere.

Progress (of the engine) -> Bar or Lines
"""

import os
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from modelops_dask.study.progress import Progress

LINE_SECONDS = 10


class Lines:
    """A line every tenth of the tasks, and when ten seconds went by without one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tenth = 0
        self._said = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        tenth = 10 * progress.done // progress.total
        now = time.monotonic()
        if tenth == self._tenth and now - self._said < LINE_SECONDS:
            return
        self._tenth, self._said = tenth, now
        print(line(progress), file=self._stream, flush=True)

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        pass


class Bar:
    """One line that is drawn again and again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar = None

    def __call__(self, progress: "Progress") -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=progress.total,
                initial=progress.done - progress.ended_here,
                file=self._stream,
                unit=" tasks",
                dynamic_ncols=True,
                smoothing=0.1,
            )
        self._bar.set_postfix_str(f"failed {progress.failed + progress.poisoned:,}", refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if progress.done == progress.total:
            self.close()

    def say(self, text: str) -> None:
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def reporter(stream: TextIO) -> Bar | Lines:
    """What suits the stream: no bar where there is no terminal, or one that does not know its size."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return Lines(stream)
    return Bar(stream) if size.columns and size.lines else Lines(stream)


def line(progress: "Progress") -> str:
    """One line: done, failed, rate, time to go."""
    words = [f"{progress.done:,} of {progress.total:,} tasks done"]
    if bad := progress.failed + progress.poisoned:
        words.append(f"{bad:,} failed")
    words.append(f"{progress.rate:,.0f} a second" if progress.rate >= 10 else f"{progress.rate:.2g} a second")
    if progress.eta_seconds:
        words.append(f"{duration(progress.eta_seconds)} to go")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 14 ms, 2.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 1:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
