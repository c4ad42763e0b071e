"""Placeholders in the command of a study: {NAME} stands for a value, {{ and }} for braces.

    "--r0={r0}", {"r0": "2.5"} -> fill() -> "--r0=2.5"

The plan checks the names, and the process that starts the program fills in the values. Runners load this file
by path, so it uses only the standard library and Python 3.9's language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def list_names(text: str) -> list[str]:
    """The names of the placeholders in a text, in order. Raises ValueError for an unmatched brace."""
    names = []
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "}"):
            raise ValueError(f"the {token[0]} at character {token.start() + 1} of {text!r} is unmatched")
        if token[1] is not None:
            names.append(token[1])
    return names


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace placeholders by their values. Raises KeyError."""
    return _TOKEN.sub(lambda token: token[0][0] if token[1] is None else values[token[1]], text)


def format_value(value: object) -> str:
    """Format a parameter as an argument of a program: text is unchanged, other values are JSON.

    Reading a float's digits gives the same float again. Raises ValueError for a list or a mapping, and for
    text with a zero byte, which an argument cannot contain.
    """
    if isinstance(value, (dict, list, tuple)):
        kind = "mapping" if isinstance(value, dict) else "list"
        raise ValueError(
            f"a {kind} cannot be an argument of a program; name a file with parameters_file: params.json, "
            "which has all parameters as JSON, and pass {parameters_file}"
        )
    text = value if isinstance(value, str) else json.dumps(value)
    if "\0" in text:
        raise ValueError("text with a zero byte cannot be an argument of a program")
    return text
