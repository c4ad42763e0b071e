"""Kubernetes' quantities (2, 500m, 1Gi, 1e3) as exact numbers.

    text or number of a values file -> Fraction -> whole bytes

The grammar is that of k8s.io/apimachinery's resource.Quantity. How much is enough is decided elsewhere.
"""

import re
from fractions import Fraction

from modelops_dask.documents.characters import describe_lookalike, make_plain
from modelops_dask.errors import BadInput

_GRAMMAR = re.compile(r"([-+]?)([0-9]+\.?[0-9]*|\.[0-9]+)([A-Za-z]*|[eE][-+]?[0-9]+)")
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_LONGEST = 40  # characters; keeps 1e999999999 from becoming a number of that many digits
_LARGEST_EXPONENT = 30


class BadQuantity(BadInput):
    """A text that is not a quantity.

    `suggestion` states what to write instead, if that can be guessed, and `correction` is the quantity that
    is meant, if its number is fine.
    """

    def __init__(
        self, text: str, message: str, suggestion: str = "", *, unit: bool = False, correction: str = ""
    ) -> None:
        super().__init__(text, message, suggestion)
        self.text = text
        self.message = message
        self.suggestion = suggestion
        self.correction = correction
        self.unit = unit  # the number is fine, its unit is not

    def __str__(self) -> str:
        problem = f"{self.text!r} is not a quantity: {self.message}"
        return f"{problem}; {self.suggestion}" if self.suggestion else problem


def parse(value: str | int | float) -> Fraction:
    """The exact number of a quantity. Raises BadQuantity."""
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadQuantity(text, "expected a number with a unit")
    match = _GRAMMAR.fullmatch(text)
    if match is None or len(text) > _LONGEST:
        raise _explain(text)
    sign, digits, suffix = match.groups()
    number = Fraction(digits + "0" if digits.endswith(".") else digits)
    if suffix in _BINARY:
        number *= _BINARY[suffix]
    elif suffix in _DECIMAL:
        number *= Fraction(10) ** _DECIMAL[suffix]
    elif re.fullmatch(r"[eE][-+]?[0-9]+", suffix) and abs(int(suffix[1:])) <= _LARGEST_EXPONENT:
        number *= Fraction(10) ** int(suffix[1:])
    else:
        raise _explain(text)
    return -number if sign == "-" else number


def to_bytes(value: str | int | float) -> int:
    """Whole bytes, rounded up as in Kubernetes. Raises BadQuantity, also for millibytes and negatives."""
    number = parse(value)
    text = str(value)
    if number < 0:
        raise BadQuantity(text, "memory cannot be negative")
    if text.endswith(("m", "u", "n")):
        if not text.endswith("m"):
            raise BadQuantity(text, "memory is counted in bytes", "write a size such as 1Gi", unit=True)
        right = f"{text[:-1]}Mi"
        raise BadQuantity(text, "m is a thousandth of a byte", f"write {right}", unit=True, correction=right)
    return -((-number.numerator) // number.denominator)


def to_cpus(value: str | int | float) -> Fraction:
    """CPUs; 500m is one half. Raises BadQuantity, also for negatives."""
    number = parse(value)
    if number < 0:
        raise BadQuantity(str(value), "CPUs cannot be negative")
    return number


def text_of(count: int) -> str:
    """Bytes as the shortest exact quantity: 4Gi, 14G, 960Mi, or the bare number."""
    if count <= 0:
        return str(count)
    forms = [f"{count // size}{unit}" for unit, size in _BINARY.items() if count % size == 0]
    forms += [
        f"{count // 10**power}{unit}"
        for unit, power in _DECIMAL.items()
        if power > 0 and count % 10**power == 0
    ]
    return min([*forms, str(count)], key=len)


def _explain(text: str) -> BadQuantity:
    if advice := describe_lookalike(text):
        plain = make_plain(text)
        return BadQuantity(text, f"not a quantity because of its characters: {advice}", f"write {plain}")
    if any(ch.isdigit() and not ch.isascii() for ch in text):
        plain = "".join(str(int(ch)) if ch.isdecimal() else ch for ch in text)
        return BadQuantity(text, "only the digits 0 to 9 are allowed", f"write {plain}")
    if "_" in text:
        return BadQuantity(text, "no underscores between digits", f"write {text.replace('_', '')}")
    if "," in text:
        return BadQuantity(
            text, "no commas in numbers", "write a point for decimals and no thousands separators"
        )
    if text != text.strip() or re.fullmatch(r"[0-9.]+\s+[A-Za-z]+", text):
        return _explain_spaces(text)
    match = re.fullmatch(r"([-+]?[0-9.]+)([A-Za-z]+)", text)
    if match is None:
        is_unit = text in _BINARY or text in _DECIMAL
        return BadQuantity(
            text,
            "the number is missing" if is_unit and text else "expected a number and a unit",
            "write a size such as 1Gi",
        )
    number, unit = match.groups()
    for size, letter in (("K", "k"), ("M", "M"), ("G", "G"), ("T", "T"), ("P", "P"), ("E", "E")):
        if unit.upper() in (size, size + "B", size + "I", size + "IB"):
            binary = f"{number}{size}i"
            power = _DECIMAL[letter]
            suggestion = f"write {binary}"
            if "I" not in unit.upper():
                suggestion += f" (2^{power // 3 * 10} bytes) or {number}{letter} (10^{power} bytes)"
            return BadQuantity(
                text, f'unknown unit "{unit}"', suggestion, unit=True, correction=_checked(binary)
            )
    return BadQuantity(
        text, f'unknown unit "{unit}"', "units are Ki Mi Gi Ti (2^10 each) and k M G T (1000 each)", unit=True
    )


def _explain_spaces(text: str) -> BadQuantity:
    """A quantity with spaces; if it is invalid without them too, the advice covers that."""
    joined = "".join(text.split())
    if correction := _checked(joined):
        return BadQuantity(text, "no spaces", f"write {joined}", unit=True, correction=correction)
    problem = _explain(joined)
    return BadQuantity(
        text,
        f"no spaces; {problem.message}",
        problem.suggestion,
        unit=True,
        correction=problem.correction,
    )


def _checked(text: str) -> str:
    """The text if it is a quantity, else ""."""
    try:
        parse(text)
    except BadQuantity:
        return ""
    return text
