"""A problem in a file written by a person: its position, its code and a suggestion."""

from dataclasses import dataclass
from typing import Literal

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
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    suggestion: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{self.code}  {self.message}"
        text = f"{place}  {text}" if place else text
        return f"{text}; {self.suggestion}" if self.suggestion else text
