"""Paths as a person can type them after a command that a message prints."""

import shlex
from pathlib import Path


def quote_path(path: str | Path) -> str:
    """A path as one word for a shell, which no command takes for an option."""
    word = shlex.quote(str(path))
    return f"./{word}" if word.startswith("-") else word
