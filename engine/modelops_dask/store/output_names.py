"""Names of outputs in messages. A model chooses them freely, including line breaks and control characters.

names -> show_names() -> "curve, deaths, 'a\\nb'"
"""

from collections.abc import Iterable


def show_name(name: str) -> str:
    """A name for a message: unchanged, or as Python writes it if parts of it would not be visible."""
    return name if name.isprintable() and name else repr(name)


def show_names(names: Iterable[str]) -> str:
    """Names, separated by commas."""
    return ", ".join(map(show_name, names))
