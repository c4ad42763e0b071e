"""Read a values file as helm reads it, and keep where each key and value stands.

    bytes -> Node tree (yaml_nodes.py; maps, lists, scalars, each with its place) + findings

Does not know which names or types a value should have: check.py does. A study is told from values here, for
each of its names would be a finding there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops_dask.yaml_nodes import Node, Nodes, Problem, Stop, Where
from mops_helm.values.findings import Finding
from mops_helm.values.scalars import resolve

MAX_BYTES = 1 << 20  # a release, values included, must fit a Secret of 1 MiB
MAX_DEPTH = 64
MAX_NODES = 100_000  # after aliases are expanded

_STUDY_MODEL = ("model", "scenario", "entrypoint")
_STUDY_SETS = ("sets", "grid", "latin-hypercube", "sobol", "parameter_sets")
_TEXTS = {  # code, message, suggestion
    Problem.TAB: ("YAML_TAB", "a tab in the indentation", "indent with spaces"),
    Problem.CONTROL: ("YAML_SYNTAX", "a control character", "remove it"),
    Problem.DOCUMENTS: (
        "YAML_DOCUMENTS",
        "a second document: Helm 3 ignores it, Helm 4 merges it",
        "keep one document in a file",
    ),
    Problem.DEPTH: ("YAML_DEEP", f"nested more than {MAX_DEPTH} levels deep", "no value is"),
    Problem.SIZE: (
        "YAML_ALIASES",
        f"more than {MAX_NODES:,} values with aliases expanded",
        "write them out",
    ),
    Problem.CYCLE: ("YAML_ALIASES", "&{name} contains itself", "write the value out"),
    Problem.ANCHOR: ("YAML_SYNTAX", "*{name} names no anchor", "mark the value with &{name}"),
    Problem.MERGE: ("YAML_SYNTAX", "<< takes a map or a list of maps", "alias a map: <<: *name"),
    Problem.TAG: ("YAML_TAG", "the tag {tag}", "remove it; quote what is a text"),
    Problem.DUPLICATE: (
        "DUPLICATE_KEY",
        "{name} is here a second time (first on line {first}); helm keeps only the last",
        "remove one",
    ),
}


@dataclass(frozen=True)
class Source:
    """One layer of values: a file, or the --set flags."""

    name: str
    root: Node
    findings: tuple[Finding, ...] = ()


def load(path: Path) -> Source:
    """A file's values and what is wrong with it as a file; after an error the values may be incomplete."""
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return _unusable(name, 0, 0, "FILE_UNREADABLE", error.strerror or str(error))
    if len(data) > MAX_BYTES:
        return _unusable(
            name, 0, 0, "TOO_LARGE", "more than 1 MiB of values", "helm cannot store them in a release"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        return _unusable(name, line, column, "NOT_UTF8", f"byte 0x{data[error.start]:02x} is not UTF-8")
    return loads(text, name)


def loads(text: str, name: str) -> Source:
    """load() for a text; `name` stands for the file in findings."""
    reader = _Values(name)
    reader.read(text)
    root = reader.root if reader.root is not None else Node({}, Where(name, 1, 1))
    if not isinstance(root.value, dict):
        if root.value is not None:
            reader.add(
                root.where.line, root.where.column, "NOT_A_MAP", "a values file is a map of names to values"
            )
        root = Node({}, root.where)
    if any(step in root.value for step in _STUDY_MODEL) and any(step in root.value for step in _STUDY_SETS):
        at = next(iter(root.value.values())).where
        said, instead = "this is a study, not values", f"mops-helm study plan {name} reads it"
        return _unusable(name, at.key_line, at.key_column, "STUDY", said, instead)
    return Source(name, root, tuple(reader.findings))


def _unusable(name: str, line: int, column: int, code: str, message: str, suggestion: str = "") -> Source:
    finding = Finding(name, line, column, code, message, suggestion)
    return Source(name, Node({}, Where(name, 1, 1)), (finding,))


class _Values(Nodes):
    """Nodes as helm takes them, with findings."""

    max_depth, max_nodes = MAX_DEPTH, MAX_NODES

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.findings: list[Finding] = []

    def add(self, line: int, column: int, code: str, message: str, suggestion: str = "") -> None:
        self.findings.append(Finding(self.name, line, column, code, message, suggestion))

    def report(self, problem: Problem, where: Where, **detail: Any) -> None:
        if problem is Problem.SYNTAX:
            hint = _hint(detail["written"], where.column)
            self.add(where.line, where.column, "YAML_SYNTAX", detail["words"], hint)
            return
        code, message, suggestion = _TEXTS[problem]
        self.add(where.line, where.column, code, message.format(**detail), suggestion.format(**detail))

    def scalar(self, text: str, tag: str | None, where: Where) -> Any:
        if tag:
            self.report(Problem.TAG, where, tag=tag)
            return resolve(text)
        value = resolve(text)
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            message = "no values file can hold this number"
            self.add(where.line, where.column, "YAML_SYNTAX", message, "write a finite one")
            return 0
        return value

    def key(self, key: Node) -> str:
        at, value = key.where, key.value
        if isinstance(value, dict | list) or value is None:
            suggestion = "write a name" if value is None else "quote it; {{ }} belongs in templates only"
            self.add(at.line, at.column, "YAML_KEY", "a key that is no text", suggestion)
            raise Stop
        if isinstance(value, str):
            return value
        name = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, float):
            name = f"{value:g}"
        if name != at.text:
            message = f'the name {at.text} is read as "{name}"'
            self.add(at.line, at.column, "YAML_KEY", message, f'quote it: "{at.text}"')
        return name


def _hint(written: str, column: int) -> str:
    """What most likely went wrong on a line that the parser refuses."""
    rest = written[column - 1 :]
    if rest[:1] in ("@", "`", "%"):
        return f"quote a text that starts with {rest[:1]}"
    if "{{" in written:
        return "a values file is no template: write the value itself"
    if written.count(": ") > 1:
        return "quote a text that contains a colon and a space"
    return "look at the indentation, quotes and brackets of this line and the one above"
