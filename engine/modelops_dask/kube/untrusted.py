"""Text from untrusted sources, as plain values that are safe to count with and to print.

a Job's annotation -> mapping() -> names and values within bounds;   value -> count(), number(), text()

Everyone with permission to patch Jobs can write their annotations, including the pod of each study. So any of
them can hold anything, and none may prevent another study from being shown. Invalid values count as missing.
"""

import json
from typing import Any

MOST = 10**15  # of a count, or of seconds
LEAST = 1e-9  # of a number that is not 0
DEPTH = 8
TEXT_LIMIT = 100_000  # characters


def mapping(annotation: Any) -> dict[str, Any]:
    """The JSON object of an annotation, cleaned; {} for all else."""
    try:
        value = json.loads(annotation or "{}")
    except (ValueError, TypeError, RecursionError):
        return {}
    return _plain(value, DEPTH) if isinstance(value, dict) else {}


def count(value: Any) -> int:
    """A number of things; 0 for invalid values."""
    return value if type(value) is int and 0 <= value <= MOST else 0


def number(value: Any) -> float:
    """A positive number that can be a divisor; 0.0 for other values."""
    fits = type(value) in (int, float) and LEAST <= value <= MOST  # NaN does not
    return float(value) if fits else 0.0


def text(value: Any) -> str:
    """Text without characters that move a terminal's cursor or cannot be encoded; "" for invalid values."""
    if not isinstance(value, str):
        return ""
    value = value[:TEXT_LIMIT]
    if value.isprintable():
        return value
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1]
        for character in value
    )


def _plain(value: Any, depth: int) -> Any:
    """The same value with clean texts and numbers within bounds; None below that depth."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(name): _plain(element, depth - 1) for name, element in value.items()} if depth else None
    if isinstance(value, list):
        return [_plain(element, depth - 1) for element in value] if depth else None
    if isinstance(value, bool) or value is None:
        return value
    return value if abs(value) <= MOST else None  # NaN is not
