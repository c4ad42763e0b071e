"""The formats in which every command prints data: a table for people, JSON and YAML for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

OutputFormat = Literal["table", "json", "yaml"]  # the values of -o


def render_data(value: Any, output: OutputFormat) -> str:
    """Plain data as JSON or YAML."""
    if output == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return render_yaml(value).rstrip("\n")


def render_json_line(value: Any) -> str:
    """Plain data as JSON on one line. Keys are sorted, except those of a task, which begin with `set`."""
    return json.dumps(value, ensure_ascii=False, sort_keys=isinstance(value, dict) and "set" not in value)


def render_yaml(value: Any) -> str:
    """YAML that helm reads back as the same data; text that it would misread is quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            return super().increase_indent(flow, False)

    def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        from mops_helm.values.scalars import resolve

        misread = isinstance(text, str) and text != "" and resolve(text) != text
        style = '"' if misread or text == "" else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent_text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def format_bytes(n_bytes: int) -> str:
    """Bytes for people: 1.96Gi, 976Mi."""
    for unit, power in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
        if abs(n_bytes) >= 1 << power:
            digits = 2 if unit == "Gi" else 0
            text = f"{n_bytes / (1 << power):.{digits}f}"
            return (text.rstrip("0").rstrip(".") if digits else text) + unit
    return f"{n_bytes}B"


def shorten_path(path: str) -> str:
    """A path relative to the current folder if it is inside it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
