"""Write the corrections of findings into the files, and keep every other character.

findings with a correction -> the scalar at each position, in the file's text -> the corrected file

Names may hide faults below them (`wrokers: {memoryPerProcess: 4g}`), so files are checked again until there
is nothing to correct. docs/decisions/0024-corrections.md explains why this is not a round trip through a YAML
library.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import YAML_LOADER
from modelops_dask.errors import BadInput
from mops_helm.output_file import write_file

MAX_ROUNDS = 20  # a correction may uncover a fault below it; values are nested less deeply
_BOM = "\ufeff"
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what YAML 1.1 calls one
_BEGINS = (
    yaml.BlockMappingStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowSequenceStartToken,
)
_ENDS = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


@dataclass(frozen=True)
class _Scalar:
    """A scalar on one line. `parent` numbers the map whose key it is; None for a value."""

    begin: int
    end: int
    value: str
    quotes: str
    parent: int | None


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
    unique_files = list({os.path.realpath(path): path for path in files}.values())
    corrected: list[Finding] = []
    for _ in range(MAX_ROUNDS):
        changes = list(_plan_changes(unique_files, check()))
        if not changes:
            break
        for path, _, _ in changes:
            _refuse_read_only(path)
        for path, text, new_findings in changes:
            write_file(path, text.encode())
            corrected += new_findings
    return corrected


def count_fixable(files: Sequence[Path], findings: Sequence[Finding]) -> int:
    """The number of findings that fix_files() would correct at first."""
    return sum(len(corrected) for _, _, corrected in _plan_changes(files, findings))


def _plan_changes(
    files: Sequence[Path], findings: Sequence[Finding]
) -> Iterator[tuple[Path, str, list[Finding]]]:
    """The corrected text of each file that changes, and its corrections."""
    for path in files:
        own_findings = [item for item in findings if item.correction and item.file == str(path)]
        if own_findings and path.is_file():  # a pipe cannot be read twice
            text, corrected = _correct(path.read_bytes().decode(), own_findings)
            if corrected:
                yield path, text, corrected


def _refuse_read_only(path: Path) -> None:
    """A file without write permission stays, though its directory would let it be replaced."""
    if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
        raise BadInput(f"{path} is read-only, so nothing was corrected in it")


def _correct(content: str, findings: Sequence[Finding]) -> tuple[str, list[Finding]]:
    """Make the corrections for which there is a scalar at the position, and no other name like it."""
    bom, text = (_BOM, content[1:]) if content.startswith(_BOM) else ("", content)
    scalars = _find_scalars(text)
    names = Counter((s.parent, s.value) for s in scalars.values() if s.parent is not None)
    by_position: dict[tuple[int, int], tuple[_Scalar, Finding]] = {}
    for finding in findings:
        if scalar := scalars.get((finding.line, finding.column)):
            by_position[finding.line, finding.column] = (scalar, finding)
    for scalar, finding in by_position.values():
        if scalar.parent is not None and scalar.value != (right_name := finding.correction.strip('"')):
            names[scalar.parent, right_name] += 1
    corrected: list[Finding] = []
    for scalar, finding in sorted(by_position.values(), key=lambda pair: pair[0].begin, reverse=True):
        if scalar.parent is not None and names[scalar.parent, finding.correction.strip('"')] > 1:
            continue  # two entries would have one name, and only one of them an effect
        right = finding.correction
        if scalar.quotes and not right.startswith('"'):  # the file may be JSON
            right = f"{scalar.quotes}{right}{scalar.quotes}"
        corrected.append(replace(finding, correction=f"{text[scalar.begin : scalar.end]} -> {right}"))
        text = text[: scalar.begin] + right + text[scalar.end :]
    return bom + text, corrected[::-1]


def _find_scalars(text: str) -> dict[tuple[int, int], _Scalar]:
    """Every scalar on one line, by its line and column from 1; none of a text that is not YAML.

    A finding of a scalar with an anchor or a tag has their position, so that none is found here: the aliases
    would change too.
    """
    line_starts = [0, *(match.end() for match in _LINE_BREAK.finditer(text))]
    scalars: dict[tuple[int, int], _Scalar] = {}
    open_parents: list[int] = []
    n_parents, is_key = 0, False
    try:
        for token in yaml.scan(text, Loader=YAML_LOADER):
            if isinstance(token, _BEGINS):
                open_parents.append(n_parents)
                n_parents += 1
            elif isinstance(token, _ENDS):
                open_parents.pop()
            elif isinstance(token, yaml.ScalarToken):
                start, end = token.start_mark, token.end_mark
                if start.line == end.line and token.style not in ("|", ">"):
                    scalars[start.line + 1, start.column + 1] = _Scalar(
                        begin=line_starts[start.line] + start.column,
                        end=line_starts[end.line] + end.column,
                        value=token.value,
                        quotes=token.style or "",
                        parent=open_parents[-1] if is_key else None,
                    )
            is_key = isinstance(token, yaml.KeyToken) or (
                is_key and isinstance(token, yaml.AnchorToken | yaml.TagToken)
            )
    except yaml.YAMLError:
        return {}
    return scalars
