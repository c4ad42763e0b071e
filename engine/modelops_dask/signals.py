"""Handle Ctrl-C and SIGTERM as requests instead of exceptions that can occur anywhere.

Python raises KeyboardInterrupt between any two instructions: also while Dask starts workers, which then print
a traceback at exit, and inside a callback that cannot raise, where it is lost.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_on_signals(on_stop: Callable[[], object]) -> Iterator[None]:
    """Call on_stop() in the handler of the first SIGINT or SIGTERM; the next one ends the process
    immediately.
    """

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 (Python calls it so)
        restore()
        on_stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Make SIGTERM also exit every `with` block, so that nothing is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
