"""A change that tasks left in a process, as snapshot.py, process_state.py and changes.py describe it.

This is only a record: those modules find, undo and report changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# Owners of a value: the nearer to the model, the smaller.
OF_BUNDLE, OF_PROCESS, OF_PACKAGE, OF_PYTHON = 0.0, 0.5, 1.0, 2.0


class StateChange(NamedTuple):
    """A changed value; the texts are short.

    undo() restores it; None if that is impossible. owner is one of OF_BUNDLE, OF_PROCESS, OF_PACKAGE,
    OF_PYTHON.
    """

    holder: str  # "module sir", "cwd", "os.environ", ...
    name: str  # "_cache"; "" if `holder` is sufficient
    before: str
    after: str
    undo: Callable[[], object] | None
    owner: float
