"""Problems of a values file: the position, the code, what to write instead.

Every code is in CODES and, with an example, in docs/values-findings.md; a test compares the two. Problems are
found in load.py, sets.py and check.py.
"""

from collections.abc import Sequence

from modelops_dask.documents.findings import BadFile, Finding, Severity
from modelops_dask.documents.nodes import Position

CODES: dict[str, Severity] = {  # code -> severity
    "FILE_UNREADABLE": "error",
    "NOT_UTF8": "error",
    "TOO_LARGE": "error",
    "YAML_SYNTAX": "error",
    "YAML_TAB": "error",
    "YAML_TAG": "error",
    "YAML_DEEP": "error",
    "YAML_ALIASES": "error",
    "YAML_DOCUMENTS": "error",
    "NOT_A_MAP": "error",
    "STUDY": "error",
    "DUPLICATE_KEY": "error",
    "YAML_KEY": "error",
    "YAML_BOOLEAN": "error",
    "YAML_TRUTHY": "warning",
    "YAML_OCTAL": "error",
    "YAML_UNDERSCORE": "error",
    "YAML_SEXAGESIMAL": "error",
    "YAML_NUMBER": "warning",
    "SET_SYNTAX": "error",
    "NULL": "error",
    "UNKNOWN_NAME": "error",
    "MISSING_NAME": "error",
    "WRONG_TYPE": "error",
    "NOT_ALLOWED": "error",
    "OUT_OF_RANGE": "error",
    "BAD_FORMAT": "error",
    "QUANTITY": "error",
    "MEMORY_UNIT": "error",
    "MEMORY_SMALL": "error",
    "MEMORY_UNUSED": "warning",
    "CHILD_MEMORY": "error",
    "REQUEST_OVER_LIMIT": "error",
    "CPU_LARGE": "warning",
    "VOLUME_TAKEN": "error",
    "VOLUME_MISSING": "error",
    "STORE_PLACE": "error",
    "SWITCHED_OFF": "warning",
    "AUTOSCALING_ORDER": "error",
    "AUTOSCALING_REPLICAS": "warning",
    "AUTOSCALING_CPU": "error",
    "ENV_LIST": "error",
    "ENV_DUPLICATE": "error",
    "ENV_VALUE_AND_FROM": "error",
    "ENV_OWNED": "error",
    "ENV_MISSPELT": "error",
    "PRESET_BINDING": "error",
    "PRESET_UNKNOWN": "warning",
    "DASK_UNKNOWN_KEY": "error",
    "DASK_DOTTED_KEY": "error",
    "DASK_VALUE": "error",
    "DASK_THRESHOLD_ORDER": "error",
}

FIXABLE_BY_OTHER_LAYERS = {  # errors that other values, above or below these, may remove
    "MISSING_NAME",
    "CHILD_MEMORY",
    "REQUEST_OVER_LIMIT",
    "VOLUME_MISSING",
    "STORE_PLACE",
    "AUTOSCALING_ORDER",
    "AUTOSCALING_CPU",
    "ENV_OWNED",
    "ENV_MISSPELT",
    "PRESET_BINDING",
    "DASK_THRESHOLD_ORDER",
}


def finding_at(
    position: Position, code: str, message: str, suggestion: str = "", correction: str = ""
) -> Finding:
    """A finding with the severity of its code in CODES."""
    return Finding(
        file=position.file,
        line=position.line,
        column=position.column,
        code=code,
        message=message,
        suggestion=suggestion,
        severity=CODES[code],
        correction=correction,
    )


class BadValues(BadFile):
    """Values that must not be used, with all findings, including warnings."""


def errors(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that make a file unusable."""
    return [finding for finding in findings if finding.severity == "error"]
