"""The meaning of an unquoted word in a study.yaml: a number, a boolean, null or text.

text -> value by YAML 1.2, as studies are read;   text -> Trap, if something else may be meant

ModelOps reads YAML with PyYAML, which follows YAML 1.1: there `no` is false, 0123 is 83, and 1e5 is text. A
word that the two read differently, or that loses part of its text (1_000, 007), is a trap. PyYAML
itself is asked how it reads a word, so that the two cannot diverge.
"""

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import yaml

_WORDS: dict[str, object] = {
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
}
_INT = re.compile(r"([-+]?)(?:0b([01_]+)|0x([0-9a-fA-F_]+)|0o([0-7_]+)|([0-9_]+))")
_FLOAT = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
)
# What YAML 1.1 and 1.2 read alike: most numbers of a file with a million sets are so written.
_COMMON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(\.[0-9]+)?")
_TRUTHS = {"yes": True, "y": True, "on": True, "no": False, "n": False, "off": False}
_TAGS = {bool: "!!bool", int: "!!int", float: "!!float", type(None): "!!null"}
_LEADING_ZERO = re.compile(r"[-+]?0o?[0-9_]+")
_TAG = "tag:yaml.org,2002:"
_pyyaml = yaml.SafeLoader("")


class Trap(NamedTuple):
    """A word that may be misread, with the text of a finding."""

    code: str
    message: str


def resolve(text: str) -> object:
    """The value of a plain scalar. Raises ValueError for a value that a study cannot hold, such as a date."""
    if match := _COMMON_NUMBER.fullmatch(text):
        return float(text) if match[1] else int(text)
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "-+0123456789" and (match := _INT.fullmatch(text)):
        sign, binary, hexadecimal, octal, decimal = match.groups()
        bodies = ((binary, 2), (hexadecimal, 16), (octal, 8), (decimal, 10))
        body, base = next((body, base) for body, base in bodies if body)
        value = _number(text, int, body, base)
        return -value if sign == "-" else value
    if text[0] in "-+.0123456789" and _FLOAT.fullmatch(text):
        return _number(text, float, text)
    if text[0] in "0123456789<=":
        kind = _pyyaml_kind(text)
        if kind in ("timestamp", "value", "merge"):
            raise ValueError(f"{text} is read as a {kind}; write it in quotes")
    return text


def resolve_tagged(text: str, tag: str) -> object:
    """The value of a scalar with a tag such as !!int. Raises ValueError for a value that a study cannot
    hold.
    """
    truth = _truth(text) if tag == "!!bool" else None
    value = resolve(text) if truth is None else truth
    if tag == "!!float" and type(value) is int:
        return float(value)
    if tag != _TAGS.get(type(value)):
        raise ValueError(f"{text} is read as a {tag.removeprefix('!!')}; write it in quotes")
    return value


def trap(text: str, value: object, tag: str | None = None) -> Trap | None:
    """The possible misreading of an unquoted scalar, which was read as `value`."""
    if isinstance(value, str):
        return _text_trap(text)
    if value is None or isinstance(value, bool) or (tag is None and _COMMON_NUMBER.fullmatch(text)):
        return None
    other = pyyaml_value(text, tag)
    pyyaml_clause = "" if _same(other, value) else f" here, and as {_describe(other)} by PyYAML"
    code = "YAML_NUMBER"
    if _LEADING_ZERO.fullmatch(text):
        code = "YAML_OCTAL"
    elif "_" in text:
        code = "YAML_UNDERSCORE"
    elif not pyyaml_clause:
        return None
    number, quoted = _format_number(value), f'"{text}"'
    forms = (quoted, number) if code == "YAML_OCTAL" else (number, quoted)
    return Trap(code, f"{text} is read as {number}{pyyaml_clause}; write {' or '.join(forms)}")


@lru_cache(4096)
def key_trap(text: str) -> Trap | None:
    """The possible misreading of an unquoted name, which is text here but may be another value for PyYAML."""
    if _same(other := pyyaml_value(text), text):
        return None
    return Trap("YAML_KEY", f'the name {text} is read as {_describe(other)} by PyYAML; write "{text}"')


def pyyaml_value(text: str, tag: str | None = None) -> object:
    """The value that PyYAML's safe loader reads from an unquoted scalar; the text itself if it refuses."""
    kind = tag.removeprefix("!!") if tag else _pyyaml_kind(text)
    if kind == "str":
        return text
    node = yaml.ScalarNode(_TAG + kind, text)
    try:
        return yaml.SafeLoader.yaml_constructors[node.tag](_pyyaml, node)
    except (KeyError, ValueError):
        return text


@lru_cache(4096)
def _text_trap(text: str) -> Trap | None:
    if (truth := _truth(text)) is not None:
        word = "true" if truth else "false"
        return Trap("YAML_BOOLEAN", f'{text} may be read as {word} or as text; write {word} or "{text}"')
    if _same(other := pyyaml_value(text), text):
        return None
    return Trap(
        "YAML_SEXAGESIMAL",
        f"{text} is read as text here, but as {_describe(other)} by PyYAML; "
        f'write "{text}" or {_format_number(other)}',
    )


def _number(text: str, kind: Callable[..., Any], digits: str, *base: int) -> Any:
    try:
        return kind(digits.replace("_", ""), *base)
    except ValueError:
        if not digits.strip("_.+-"):
            raise ValueError(f"{text} is a number without digits; write it in quotes") from None
        raise  # a number with thousands of digits


def _truth(text: str) -> bool | None:
    """The boolean that YAML 1.1 reads from words such as yes, Yes or YES."""
    return _TRUTHS.get(text.lower()) if text in (text.lower(), text.upper(), text.title()) else None


def _pyyaml_kind(text: str) -> str:
    tag: str = _pyyaml.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # types-PyYAML
    return tag.removeprefix(_TAG)


def _same(value: object, other: object) -> bool:
    """Whether two values are the same to a model; NaN equals NaN."""
    return type(value) is type(other) and (value == other or (value != value and other != other))


def _describe(value: object) -> str:
    if isinstance(value, str):
        return "text"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _format_number(value: object) -> str:
    """A number in a form that YAML 1.1 and 1.2 read alike."""
    text = str(value)
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}.0{exponent}{power}" if exponent and "." not in mantissa else text
