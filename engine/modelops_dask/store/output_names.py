"""Names of outputs in messages. A model chooses them freely, line breaks and control characters included.

names -> show_names() -> "curve, deaths, 'a\\nb'"
"""

from collections.abc import Iterable


def show_name(name: str) -> str:
    """A name as a message can show it: as it is, or as Python writes it where it would not be seen whole."""
    return name if name.isprintable() and name else repr(name)


def show_names(names: Iterable[str]) -> str:
    """Names with commas between them."""
    return ", ".join(map(show_name, names))
