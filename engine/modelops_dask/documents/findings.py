"""A problem in a file written by a person: its position, its code and a suggestion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modelops_dask.errors import BadInput

Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Finding:
    """One problem at a position; findings sort by file, then position.

    Args:
        file: The file as a person named it; empty for data that is in no file.
        line: From 1; 0 for the file as a whole.
        column: In code points, from 1; 0 for the file as a whole.
        code: A stable name of the kind of problem.
        message: What is wrong.
        suggestion: What to write instead; empty if the message includes it.
        severity: `warning` leaves the file usable.
        correction: What replaces the value or name at the position, as YAML, if only one text can be meant.
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    suggestion: str = ""
    severity: Severity = "error"
    correction: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{self.code}  {self.message}"
        text = f"{place}  {text}" if place else text
        return f"{text}; {self.suggestion}" if self.suggestion else text


class BadFile(BadInput):
    """A file cannot be used; with all its findings, warnings too."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(findings)
        self.findings = tuple(findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))
