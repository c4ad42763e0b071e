"""Values and names as text of a study file, which YAML 1.1 and 1.2 read in the same way."""

import json

# Words that YAML 1.1 does not read as text.
WORDS = frozenset(("yes", "no", "on", "off", "true", "false", "null"))


def render_name(name: str) -> str:
    """The name of a parameter, in quotes if YAML needs them."""
    return render_value(name) if name.lower() in WORDS else name


def render_value(value: object) -> str:
    """A value of one of JSON's types, on one line."""
    if isinstance(value, dict):
        return (
            f"{{{', '.join(f'{render_value(name)}: {render_value(item)}' for name, item in value.items())}}}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(render_value, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)
    is_short = isinstance(value, float) and "e" in text and "." not in text
    return text.replace("e", ".0e") if is_short else text  # YAML 1.1 reads 1e-05 as text


def _escape(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
