"""Directory listings in reverse order: no file system guarantees an order, and models depend on it
unknowingly.

    reverse_listings(), before the model is imported -> os.listdir and os.scandir answer backwards

glob, os.walk and pathlib call these two. Listings by C code are unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

_listdir, _scandir = os.listdir, os.scandir


def reverse_listings() -> None:
    """Replace the functions of this process."""
    setattr(os, "listdir", lambda *arguments: _listdir(*arguments)[::-1])  # noqa: B010 (a constant to mypy)
    setattr(os, "scandir", _Entries)  # noqa: B010


class _Entries:
    """What os.scandir returns: an iterator that can be closed."""

    def __init__(self, *arguments: Any) -> None:
        with _scandir(*arguments) as entries:
            self._entries: Iterator[Any] = iter(list(entries)[::-1])

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No effect: nothing is open."""
