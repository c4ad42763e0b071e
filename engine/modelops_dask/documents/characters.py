"""Characters that word processors and web pages put where a program expects others.

They look like quotation marks or spaces and are part of the text to YAML and JSON.
"""

import unicodedata

_PLAIN = dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚‛", "'")
_NAMES = {'"': 'the straight quotation mark "', "'": "the straight quotation mark '", " ": "a space"}


def find_replacement(character: str) -> str | None:
    """The plain character for one that only looks like it; None for all others."""
    if character in _PLAIN:
        return _PLAIN[character]
    if unicodedata.category(character) == "Zs" and character != " ":
        return " "
    return "" if character in "\u200b\u2060\ufeff" else None  # no width at all


def describe_lookalike(text: str) -> str:
    """Name the first character that only looks like a plain one, and what to write; "" if there is none."""
    for character in text:
        if (plain := find_replacement(character)) is not None:
            name = f"{unicodedata.name(character).lower()} (U+{ord(character):04X})"
            return f"replace the {name} with {_NAMES[plain]}" if plain else f"remove the {name}"
    return ""


def make_plain(text: str) -> str:
    """The text as it looks: plain spaces, and no quotation marks of a word processor around it."""
    plain = "".join(c if (other := find_replacement(c)) is None else other for c in text)
    return plain if plain == text else plain.strip(" \"'")
