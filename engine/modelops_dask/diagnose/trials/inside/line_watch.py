"""The lines of the bundle that draw from the global generators, directly or indirectly.

    LineWatch(within, note) -> start() -> after each line of the bundle: did a generator advance?

Slow, because Python calls it for each line. So it is used only if results depend on the global generators and
no call by name was recorded: SciPy, for example, uses NumPy's directly.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import Any


class LineWatch:
    """Watches lines of files for which within(file) is true; note(generator, file, line) is called."""

    def __init__(self, within: Callable[[str], str], note: Callable[[str, str, int], object]) -> None:
        self._within, self._note = within, note
        self._states = _read_states()
        self._at: tuple[str, int] | None = None

    def start(self) -> None:
        sys.settrace(self._trace_call)
        threading.settrace(self._trace_call)

    def _trace_call(self, frame: Any, _event: str, _argument: Any) -> Any:
        if not self._within(frame.f_code.co_filename):
            return None
        self._compare_states()
        self._at = frame.f_code.co_filename, frame.f_lineno
        return self._trace_line

    def _trace_line(self, frame: Any, event: str, _argument: Any) -> Any:
        self._compare_states()
        self._at = (frame.f_code.co_filename, frame.f_lineno) if event == "line" else None
        if event == "return" and frame.f_back:
            self._at = frame.f_back.f_code.co_filename, frame.f_back.f_lineno
        return self._trace_line

    def _compare_states(self) -> None:
        now = _read_states()
        for name, state in now.items():
            if self._at and self._states.get(name) not in (None, state) and self._within(self._at[0]):
                self._note(name, self._within(self._at[0]), self._at[1])
        self._states = now


def _read_states() -> dict[str, tuple]:
    states = {"random": random.getstate()[1][-2:]}
    if numpy_random := sys.modules.get("numpy.random"):
        inner = numpy_random.mtrand._rand._bit_generator.state["state"]
        if "key" in inner:
            states["numpy.random"] = inner["pos"], int(inner["key"][-1])
    return states
