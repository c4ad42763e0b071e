"""The meaning of the codes of findings, from schemas/findings.yaml.

`mops-helm explain` prints it, and the tables of docs are generated from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import yaml

from modelops_dask.documents.findings import Severity
from modelops_dask.documents.nodes import YAML_LOADER
from modelops_dask.errors import BadInput
from modelops_dask.plan.document import WARNINGS
from mops_helm import paths
from mops_helm.values import findings, presets

FileKind = Literal["values", "study", "store"]


@dataclass(frozen=True)
class CodeDoc:
    """The meaning of a code in one kind of file. Texts are Markdown; `example` may be empty."""

    code: str
    kind: FileKind
    severity: Severity
    meaning: str
    example: str


def load_codes() -> list[CodeDoc]:
    """All codes: of values files, of study files, and of stores, which `study verify` checks."""
    content = yaml.load((paths.SCHEMAS / "findings.yaml").read_text("utf-8"), YAML_LOADER)
    docs = [_parse("values", findings.CODES[code], code, texts) for code, texts in content["values"].items()]
    for code, texts in content["study"].items():
        docs.append(_parse("study", "warning" if code in WARNINGS else "error", code, texts))
    docs += [_parse("store", "error", code, texts) for code, texts in content["store"].items()]
    return docs


def _parse(kind: FileKind, severity: Severity, code: str, texts: dict[str, str]) -> CodeDoc:
    return CodeDoc(code, kind, severity, texts["meaning"], texts.get("example", ""))


def find_code(code: str) -> Sequence[CodeDoc]:
    """The meaning of a code in each kind of file that has it.

    Raises:
        BadInput: The code does not exist.
    """
    docs = load_codes()
    name = code.upper().replace("-", "_")
    matches = [doc for doc in docs if doc.code == name]
    if not matches:
        near = presets.did_you_mean(name, sorted({doc.code for doc in docs}))
        hint = near or "; `mops-helm explain` lists all codes"
        raise BadInput(f"unknown code {code}{hint}")
    return matches
