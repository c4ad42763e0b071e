"""How helm reads an unquoted scalar: as a number, a boolean, null or text.

helm's YAML library follows neither YAML 1.1 nor 1.2: yes and y are true, 010 is 8, 1:30 and dates are text. A
test compares with both major versions of helm.
"""

import re

from mops_helm.values.tree import Scalar

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], float("inf")),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
}
_INT = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_STRAY_UNDERSCORE = re.compile(r"(?<![0-9])_|_(?![0-9])")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INT_LIMIT = 2**64  # helm's library reads more as a float; texts in base 2, 8, 16 stay texts


def resolve(text: str) -> Scalar:
    """A plain scalar's value, as helm reads it."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in ".+-0123456789":
        return text
    if text[0] == "." and _STRAY_UNDERSCORE.search(text):
        return text
    digits = text.replace("_", "")
    if match := _INT.fullmatch(digits):
        sign, hexadecimal, binary, octal, decimal = match.groups()
        base, body = next(
            (base, part) for base, part in ((16, hexadecimal), (2, binary), (8, octal), (10, decimal)) if part
        )
        # Longer than any integer it accepts: no need to convert, which Python refuses past 4,300 digits.
        value = int(body, base) if len(body) <= 64 else _INT_LIMIT
        if value < _INT_LIMIT and not (sign == "-" and value > _INT_LIMIT // 2):
            return -value if sign == "-" else value
    return _float(digits) if _FLOAT.fullmatch(digits) else text


def scalar_text(value: object) -> str:
    """A scalar as YAML and environment variables write it: true, not True."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _float(text: str) -> float | int | str:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return text
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
