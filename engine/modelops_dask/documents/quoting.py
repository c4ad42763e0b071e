"""Paths as a person can type them after a command that a message prints."""

import shlex
from pathlib import Path


def quote_path(path: str | Path) -> str:
    """A path as one word for a shell, which no command takes for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
