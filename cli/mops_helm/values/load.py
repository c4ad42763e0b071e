"""Read a values file as helm reads it, with the position of each key and value.

    bytes -> Node tree (documents/nodes.py; maps, lists, scalars, each with its position) + findings

The names and types of values are not known here: check.py knows them. A study file is recognized here,
because otherwise each of its names would be a finding.
"""

from dataclasses import dataclass
from pathlib import Path

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, Nodes, Position, StopReading, YamlProblem
from modelops_dask.documents.quoting import quote_path
from mops_helm.values.findings import finding_at
from mops_helm.values.scalars import resolve, scalar_text
from mops_helm.values.tree import Scalar

MAX_BYTES = 1 << 20  # a release, including values, must fit a Secret of 1 MiB
MAX_DEPTH = 64
MAX_NODES = 100_000  # after aliases are expanded

_STUDY_MODEL = ("model", "scenario", "entrypoint")
_STUDY_SETS = ("sets", "grid", "latin-hypercube", "sobol", "parameter_sets")
_TEXTS = {  # code, message, suggestion
    YamlProblem.TAB: ("YAML_TAB", "a tab in the indentation", "indent with spaces"),
    YamlProblem.CONTROL: ("YAML_SYNTAX", "a control character", "remove it"),
    YamlProblem.DOCUMENTS: (
        "YAML_DOCUMENTS",
        "a second document: Helm 3 ignores it, Helm 4 merges it",
        "keep one document per file",
    ),
    YamlProblem.DEPTH: (
        "YAML_DEEP",
        f"nested more than {MAX_DEPTH} levels deep",
        "nest values less deeply",
    ),
    YamlProblem.SIZE: (
        "YAML_ALIASES",
        f"more than {MAX_NODES:,} values with aliases expanded",
        "write them out",
    ),
    YamlProblem.CYCLE: ("YAML_ALIASES", "&{name} contains itself", "write the value out"),
    YamlProblem.ANCHOR: ("YAML_SYNTAX", "*{name} has no anchor", "mark the value with &{name}"),
    YamlProblem.MERGE: ("YAML_SYNTAX", "<< takes a map or a list of maps", "alias a map: <<: *name"),
    YamlProblem.TAG: ("YAML_TAG", "the tag {tag}", "remove it; quote the value if it is text"),
    YamlProblem.DUPLICATE: (
        "DUPLICATE_KEY",
        "{name} appears twice (first on line {first}); helm keeps only the last",
        "remove one",
    ),
}


@dataclass(frozen=True)
class Layer:
    """One layer of values: a file, or the --set flags."""

    name: str
    root: Node
    findings: tuple[Finding, ...] = ()


def load(path: Path) -> Layer:
    """A file's values and its findings as a file; after an error the values may be incomplete."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return _make_unusable(Position(name, 0, 0), "FILE_UNREADABLE", error.strerror or str(error))
    if len(content) > MAX_BYTES:
        return _make_unusable(
            Position(name, 0, 0),
            "TOO_LARGE",
            "more than 1 MiB of values",
            "helm cannot store them in a release",
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        message = f"byte 0x{content[error.start]:02x} is not UTF-8"
        return _make_unusable(Position(name, line, column), "NOT_UTF8", message)
    return loads(text, name)


def loads(text: str, name: str) -> Layer:
    """Like load(), for a text; `name` is the file in findings."""
    reader = _Values(name)
    reader.read(text)
    root = reader.root if reader.root is not None else Node({}, Position(name, 1, 1))
    if not isinstance(root.value, dict):
        if root.value is not None:
            reader.add(root.position, "NOT_A_MAP", "a values file is a map of names to values")
        root = Node({}, root.position)
    if any(step in root.value for step in _STUDY_MODEL) and any(step in root.value for step in _STUDY_SETS):
        first = next(iter(root.value.values())).position
        position = Position(name, first.key_line, first.key_column)
        suggestion = f"mops-helm study plan {quote_path(name)} reads it"
        return _make_unusable(position, "STUDY", "this is a study, not values", suggestion)
    return Layer(name, root, tuple(reader.findings))


def _make_unusable(position: Position, code: str, message: str, suggestion: str = "") -> Layer:
    """A layer without values, for an unusable file."""
    finding = finding_at(position, code, message, suggestion)
    return Layer(position.file, Node({}, Position(position.file, 1, 1)), (finding,))


class _Values(Nodes):
    """Nodes as helm reads them, with findings."""

    max_depth, max_nodes = MAX_DEPTH, MAX_NODES

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.findings: list[Finding] = []

    def add(
        self, position: Position, code: str, message: str, suggestion: str = "", correction: str = ""
    ) -> None:
        self.findings.append(finding_at(position, code, message, suggestion, correction))

    def report(self, problem: YamlProblem, position: Position, **detail: object) -> None:
        if problem is YamlProblem.SYNTAX:
            hint = _hint(str(detail["written"]), position.column)
            self.add(position, "YAML_SYNTAX", str(detail["words"]), hint)
            return
        code, message, suggestion = _TEXTS[problem]
        self.add(position, code, message.format(**detail), suggestion.format(**detail))

    def scalar(self, text: str, tag: str | None, position: Position) -> Scalar:
        if tag:
            self.report(YamlProblem.TAG, position, tag=tag)
            return resolve(text)
        value = resolve(text)
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            message = "a values file cannot hold this number"
            self.add(position, "YAML_SYNTAX", message, "write a finite number")
            return 0
        return value

    def key(self, key: Node) -> str:
        position, value = key.position, key.value
        if isinstance(value, dict | list) or value is None:
            suggestion = "write a name" if value is None else "quote it; {{ }} belongs in templates only"
            self.add(position, "YAML_KEY", "a key that is not text", suggestion)
            raise StopReading
        if isinstance(value, str):
            return value
        name = scalar_text(value)
        if isinstance(value, float):
            name = f"{value:g}"
        if name != position.text:
            message = f'the name {position.text} is read as "{name}"'
            quoted = f'"{position.text}"'
            self.add(position, "YAML_KEY", message, f"quote it: {quoted}", quoted)
        return name


def _hint(line: str, column: int) -> str:
    """The most likely problem of a line that the parser refuses."""
    rest = line[column - 1 :]
    if rest[:1] in ("@", "`", "%"):
        return f"quote text that starts with {rest[:1]}"
    if "{{" in line:
        return "a values file is not a template: write the value itself"
    if line.count(": ") > 1:
        return "quote text that contains a colon and a space"
    return "check the indentation, quotes and brackets of this line and the one above"
