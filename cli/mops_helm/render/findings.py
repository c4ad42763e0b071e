"""Functions that return findings as text: a line each and, on a terminal, the source line with a caret.

    mine.yaml:4:21  MEMORY_UNIT  workers.memoryPerProcess: ...
      4 |   memoryPerProcess: 4g
        |                     ^^

A finding that is not in a readable file, such as one of a --set flag, has no source line.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelops_dask.documents.findings import BadFile, Finding
from modelops_dask.errors import MopsError
from mops_helm.forms import OutputFormat, render_data, render_table

if TYPE_CHECKING:
    from mops_helm.codes import CodeDoc

TEXT_WIDTH = 100
SHOWN_WIDTH = 100  # of a source line, in characters; a JSON file may be one line of megabytes
# A text in quotes, a bracket, or an unquoted value or name with what YAML lets it contain.
_TOKEN = re.compile(
    r""" "(?:\\.|[^"\\])*"? | '(?:''|[^'])*'? | [\[{\s] | (?:(?!\s+\#|:(?:\s|$)|[,\]}]|\s*$).)+ """,
    re.VERBOSE,
)


def render_error(error: MopsError, *, on_terminal: bool) -> str:
    """An error's message; on a terminal, findings have their source lines."""
    if on_terminal and isinstance(error, BadFile):
        return render_findings(error.findings, on_terminal=True)
    return str(error)


def render_findings(findings: Sequence[Finding], *, on_terminal: bool) -> str:
    """A line for each finding, followed by its source line on a terminal."""
    if not on_terminal:
        return "\n".join(map(str, findings))
    line_numbers: dict[str, set[int]] = {}
    for finding in findings:
        line_numbers.setdefault(finding.file, set()).add(finding.line)
    sources = {file: dict(_read_lines(file, numbers)) for file, numbers in line_numbers.items()}
    lines: list[str] = []
    for finding in findings:
        lines.append(str(finding))
        if source_line := sources[finding.file].get(finding.line):
            lines += _point_at(source_line, finding.line, finding.column)
    return "\n".join(lines)


def _read_lines(file: str, numbers: set[int]) -> Iterator[tuple[int, str]]:
    """Those lines of a file by number; none of a file that cannot be read."""
    try:
        if not Path(file).is_file():
            return
        with Path(file).open(encoding="utf-8-sig", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if number in numbers:
                    yield number, line.rstrip("\n")
                if number >= max(numbers):
                    return
    except OSError:
        return


def _point_at(source_line: str, number: int, column: int) -> list[str]:
    """The source line, and carets under the value or name at the column."""
    begin = max(0, column - 1)
    token = _TOKEN.match(source_line, begin)
    end = max(begin + 1, token.end() if token else 0)
    cut = max(0, begin - SHOWN_WIDTH // 2) if len(source_line) > SHOWN_WIDTH else 0
    last = min(end, cut + SHOWN_WIDTH)
    before, marked = (_make_printable(source_line[a:b]) for a, b in ((cut, begin), (begin, last)))
    after = _make_printable(source_line[last : cut + SHOWN_WIDTH])
    left, right = "…" if cut else "", "…" if cut + SHOWN_WIDTH < len(source_line) else ""
    margin = f"  {number} | "
    blank_margin = f"{' ' * (len(margin) - 2)}| "
    carets = "^" * max(1, _count_cells(marked))
    return [
        f"{margin}{left}{before}{marked}{after}{right}",
        f"{blank_margin}{' ' * _count_cells(left + before)}{carets}",
    ]


def _make_printable(text: str) -> str:
    """Tabs as one space, and other control characters as a mark, so that columns fit and nothing is run."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _count_cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def render_codes(docs: Sequence["CodeDoc"], output: OutputFormat) -> str:
    """A line for each code."""
    if output != "table":
        return render_data([vars(doc) for doc in docs], output)
    rows = [[doc.code, doc.kind, doc.severity, _first_sentence(doc.meaning)] for doc in docs]
    return render_table(["CODE", "FILE", "SEVERITY", "MEANING"], rows)


def render_code(docs: Sequence["CodeDoc"], output: OutputFormat) -> str:
    """The meaning of one code, a paragraph for each kind of file that has it."""
    if output != "table":
        return render_data([vars(doc) for doc in docs], output)
    return "\n\n".join(map(_describe_code, docs))


def _describe_code(doc: "CodeDoc") -> str:
    kind = {"values": "values file", "study": "study file", "store": "store (study verify)"}[doc.kind]
    article = "an error" if doc.severity == "error" else "a warning"
    lines = [f"{doc.code}: {article} in a {kind}"]
    lines += textwrap.wrap(_drop_links(doc.meaning), TEXT_WIDTH, initial_indent="  ", subsequent_indent="  ")
    lines += [f"  Example: {doc.example}"] if doc.example else []
    page = "checks" if doc.kind == "store" else f"{doc.kind}-findings"
    return "\n".join([*lines, f"  See docs/{page}.md"])


def _drop_links(markdown: str) -> str:
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown)


def _first_sentence(markdown: str) -> str:
    return re.split(r"(?<=\.) ", _drop_links(markdown))[0]
