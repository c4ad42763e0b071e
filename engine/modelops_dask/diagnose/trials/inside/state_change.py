"""A change that tasks left in a process, as snapshot.py, process_state.py and changes.py describe it.

It is a record only: who finds, undoes or reports changes is up to those modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# Whose value it is: the nearer to the model, the smaller.
OF_BUNDLE, OF_PROCESS, OF_PACKAGE, OF_PYTHON = 0.0, 0.5, 1.0, 2.0


class StateChange(NamedTuple):
    """A value that is not as it was; the texts are short.

    undo() restores it; None where nothing can. owner is one of OF_BUNDLE, OF_PROCESS, OF_PACKAGE, OF_PYTHON.
    """

    holder: str  # "module sir", "cwd", "os.environ", ...
    name: str  # "_cache"; "" where `holder` says it all
    before: str
    after: str
    undo: Callable[[], object] | None
    owner: float
