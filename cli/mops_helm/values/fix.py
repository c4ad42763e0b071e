"""Write the corrections of findings into the files, and keep every other character.

findings with a correction -> the scalar at each position, in the file's text -> the corrected file

Names may hide faults below them (`wrokers: {memoryPerProcess: 4g}`), so files are checked again until there
is nothing to correct. docs/decisions/0024-corrections.md explains why this is not a round trip through a YAML
library.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from modelops_dask.documents.findings import Finding
from mops_helm.output_file import write_file

MAX_ROUNDS = 20  # a correction may uncover a fault below it; values are nested less deeply


def fix_files(files: Sequence[Path], check: Callable[[], Sequence[Finding]]) -> list[Finding]:
    """Correct files in place.

    Args:
        files: Those that may be written.
        check: Returns the findings of the files as they are now.

    Returns:
        The findings whose correction was made, with `before -> after` as their correction.

    Raises:
        BadInput: A file cannot be written.
    """
    corrected: list[Finding] = []
    for _ in range(MAX_ROUNDS):
        findings = [finding for finding in check() if finding.correction]
        new_findings: list[Finding] = []
        for path in files:
            new_findings += _fix_file(path, [finding for finding in findings if finding.file == str(path)])
        if not new_findings:
            break
        corrected += new_findings
    return corrected


def _fix_file(path: Path, findings: Sequence[Finding]) -> list[Finding]:
    """Make the corrections of one file for which there is a scalar at the position."""
    if not findings:
        return []
    text = path.read_bytes().decode()
    spans = _find_scalars(text)
    corrected: list[Finding] = []
    for finding in sorted(findings, reverse=True):  # from the end, so that earlier positions stay valid
        if span := spans.pop((finding.line, finding.column), None):
            begin, end = span
            change = f"{text[begin:end]} -> {finding.correction}"
            text = text[:begin] + finding.correction + text[end:]
            corrected.append(replace(finding, correction=change))
    if corrected:
        write_file(path, text.encode())
    return corrected[::-1]


def _find_scalars(text: str) -> dict[tuple[int, int], tuple[int, int]]:
    """Begin and end of every scalar on one line, by its line and column from 1."""
    return {
        (token.start_mark.line + 1, token.start_mark.column + 1): (
            token.start_mark.index,
            token.end_mark.index,
        )
        for token in yaml.scan(text, Loader=yaml.SafeLoader)
        if isinstance(token, yaml.ScalarToken) and token.start_mark.line == token.end_mark.line
    }
