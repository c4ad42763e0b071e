"""The form of a page: one HTML file that needs no network, light or dark as the reader's system is.

texts -> escaped -> sections, tables, numbers -> document()

What comes from a model passes through cell(), soft() or html.escape; other arguments are HTML. Does not know
what is reported.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

_STYLE = Path(__file__).with_name("report.css").read_text()


def document(title: str, body: Iterable[str], head: str = "", script: str = "") -> str:
    """The whole text of the file; empty parts of the body are left out."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n"
        f"{head}\n</head>\n<body>\n" + "\n".join(filter(None, body)) + f"\n{script}\n</body>\n</html>\n"
    )


def numbers(cards: Iterable[tuple[str, str, bool]]) -> str:
    """A row of cards: name, value, whether it is bad."""
    return (
        '<div class="numbers">'
        + "".join(
            f"<div{' class=bad' if bad else ''}><b>{escape(value)}</b><span>{escape(name)}</span></div>"
            for name, value, bad in cards
        )
        + "</div>"
    )


def section(title: str, note: str, figure: str | None) -> str:
    """A heading, a note and a figure or table; nothing when there is neither."""
    if not figure and not note:
        return ""
    return f"<section><h2>{escape(title)}</h2>{paragraph(note) if note else ''}{figure or ''}</section>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a head that begins with n: is of numbers. Cells are HTML."""
    head = "".join(
        f"<th class=n>{escape(name[2:])}</th>" if name.startswith("n:") else f"<th>{escape(name)}</th>"
        for name in heads
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def cell(text: str) -> str:
    """A cell of a table."""
    return f"<td>{escape(text)}</td>"


def paragraph(text: str) -> str:
    """A paragraph of grey text."""
    return f'<p class="soft">{escape(text)}</p>'


def format_duration(seconds: float) -> str:
    """14 ms, 2.4 s, 3 min, 2.5 h, 3.1 d."""
    if math.isnan(seconds):
        return ""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size or (unit == "s" and seconds >= 1):
            return f"{seconds / size:.3g} {unit}"
    milliseconds = float(f"{seconds * 1000:.3g}")
    return f"{milliseconds:g} ms" if milliseconds < 1000 else "1 s"
