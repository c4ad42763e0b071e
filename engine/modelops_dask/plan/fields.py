"""Read the values of a document one by one by their required type.

Fields.text, integer, mapping, range, ... -> the value, or None and a finding with its line and column

An invalid value becomes None and reading continues, so that a person sees all findings at the same time. The
structure of a study is not known here: spec.py defines it.
"""

import difflib
from collections.abc import Callable, Mapping
from types import EllipsisType, MappingProxyType

from modelops_dask.documents.characters import describe_lookalike
from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import NodePath
from modelops_dask.plan import contract
from modelops_dask.plan.document import NAME, Document
from modelops_dask.plan.sampling import Range

NEAR = 0.8  # the least similarity to a known name where others are allowed: `tags` is not `targets`
LARGEST_INTEGER = 2**53  # all whole numbers up to this one are exact floats


RANGE_SYNONYMS = MappingProxyType(  # what other programs call the fields of a range
    {
        **dict.fromkeys(("min", "minimum", "lower", "start", "from"), "low"),
        **dict.fromkeys(("max", "maximum", "upper", "stop", "end", "to"), "high"),
        **dict.fromkeys(("n", "count", "points", "steps"), "num"),
    }
)


class Fields:
    """Reads a document and collects its findings."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings: list[Finding] = []  # the findings that refuse the file
        self.warnings: list[Finding] = []
        for finding in document.findings:
            self._add(finding)

    def note(self, node_path: NodePath, code: str, message: str) -> None:
        self._add(self.document.finding(node_path, code, message))

    def _add(self, finding: Finding) -> None:
        (self.warnings if finding.severity == "warning" else self.findings).append(finding)

    def check_names(
        self,
        mapping: dict[str, object],
        node_path: NodePath,
        allowed_names: tuple[str, ...],
        closed: bool = True,
        synonyms: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Record unknown names; if not `closed`, only those that look like misspelt known names."""
        for name in mapping:
            near = difflib.get_close_matches(name, allowed_names, 1, cutoff=0.6 if closed else NEAR)
            if name not in allowed_names and (closed or near):
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(allowed_names)}"
                hint = f"write {synonyms[name]}" if name in synonyms else describe_lookalike(name) or hint
                self.note((*node_path, name, NAME), "UNKNOWN", f"unknown field {name}; {hint}")

    def parameter(self, node_path: NodePath, value: object) -> bool:
        """Whether a value can be a parameter's; otherwise it is recorded."""
        try:
            contract.check_value(value)
            contract.check_value({node_path[-1]: None} if isinstance(node_path[-1], str) else None)
        except ValueError as error:
            self.note(node_path, "PARAMETER", str(error))
            return False
        return True

    def checked_text(self, raw: dict[str, object], key: str, check: Callable[[str], None]) -> str | None:
        """Read a required text at the top level, and record it if `check` refuses it."""
        text = self.text(raw, (), key)
        try:
            if text is not None:
                check(text)
        except ValueError as error:
            self.note((key,), "ENTRYPOINT", str(error))
        return text

    def text(
        self,
        mapping: dict[str, object],
        node_path: NodePath,
        key: str,
        default: "str | EllipsisType | None" = ...,
    ) -> str | None:
        """Read a text; it is required unless there is a default."""
        value = mapping.get(key, default)
        if isinstance(value, str) and (value or value is default):
            return value
        if value is ...:
            self.note(node_path, "MISSING", f"{key} is missing")
        elif value is not default and value in (None, ""):
            self._note_empty(node_path, key, "text", optional=default is not ...)
        elif value is not default:
            self.note((*node_path, key), "TYPE", f"{key} must be text, not {value!r}")
        return None

    def mapping(
        self, mapping: dict[str, object], node_path: NodePath, key: str, filled: bool = False
    ) -> dict[str, object] | None:
        """Read a required mapping, which must not be empty if `filled`."""
        value = mapping.get(key, ... if filled else {})
        if value is ...:
            self.note(node_path, "MISSING", f"{key} is missing")
        elif value is None:
            self._note_empty(node_path, key, "names and values below it", optional=not filled)
        elif not isinstance(value, dict):
            self.note((*node_path, key), "TYPE", f"{key} must be a mapping of names to values")
        elif filled and not value:
            self.note((*node_path, key), "EMPTY", f"{key} names no parameter; write at least one")
        else:
            return value
        return None

    def integer(
        self,
        mapping: dict[str, object],
        node_path: NodePath,
        key: str,
        low: int,
        high: int,
        *,
        default: int | None = None,
    ) -> int | None:
        """Read a whole number from low to high; it is required unless there is a default."""
        value = mapping.get(key, default)
        if value is None and key not in mapping:
            self.note(node_path, "MISSING", f"{key} is missing; write a whole number, {low:,} or more")
        elif value is None:
            self._note_empty(node_path, key, f"a whole number, {low:,} or more", optional=default is not None)
        elif type(value) is not int:
            self.note(
                (*node_path, key), "TYPE", f"{key} must be a whole number, not {value!r}{_advise(value)}"
            )
        elif not low <= value <= high:
            self.note((*node_path, key), "RANGE", f"{key} is {value:,}; it must be from {low:,} to {high:,}")
        else:
            return value
        return None

    def boolean(self, mapping: dict[str, object], node_path: NodePath, key: str) -> bool:
        """Read a switch, which is off by default."""
        value = mapping.get(key, False)
        if not isinstance(value, bool):
            self.note((*node_path, key), "TYPE", f"{key} must be true or false")
            return False
        return value

    def range(self, mapping: dict[str, object], node_path: NodePath, extra: tuple[str, ...]) -> Range | None:
        """Read a mapping {low, high[, scale][, …]} as a Range."""
        n_findings = len(self.findings)
        self.check_names(mapping, node_path, ("low", "high", "scale", *extra), synonyms=RANGE_SYNONYMS)
        low, high = (self._bound(mapping, node_path, key) for key in ("low", "high"))
        is_log, integer_option = mapping.get("scale", "linear") == "log", mapping.get("integer", False)
        if mapping.get("scale", "linear") is None:
            self._note_empty(node_path, "scale", "linear or log", optional=True)
        elif mapping.get("scale", "linear") not in ("linear", "log"):
            self.note((*node_path, "scale"), "VALUE", f"scale is {mapping['scale']!r}; write linear or log")
        if integer_option is None and "integer" in extra:
            self._note_empty(node_path, "integer", "true or false", optional=True)
        elif not isinstance(integer_option, bool) and "integer" in extra:
            self.note(
                (*node_path, "integer"), "TYPE", f"integer must be true or false, not {integer_option!r}"
            )
        if low is not None and high is not None:
            if low >= high:
                self.note(
                    (*node_path, "low"),
                    "BOUNDS",
                    f"low {low} is not below high {high}; swap or correct them",
                )
            if is_log and low <= 0:
                self.note(
                    (*node_path, "low"), "BOUNDS", f"low is {low}; a logarithmic scale needs a value above 0"
                )
            if integer_option is True and (low % 1 or high % 1):
                self.note(
                    (*node_path, "low"),
                    "BOUNDS",
                    f"low {low} and high {high} must be whole numbers with integer",
                )
            if integer_option is True and max(abs(low), abs(high)) > LARGEST_INTEGER:
                self.note(
                    (*node_path, "high"),
                    "BOUNDS",
                    "with integer, bounds are at most 2^53; beyond it some integers are skipped",
                )
        if len(self.findings) > n_findings or low is None or high is None:
            return None
        return (
            Range(int(low), int(high), is_log, True) if integer_option is True else Range(low, high, is_log)
        )

    def _note_empty(self, node_path: NodePath, key: str, replacement: str, optional: bool = False) -> None:
        """Record a name without a value."""
        removal_hint = ", or remove it" if optional else ""
        self.note((*node_path, key), "EMPTY", f"{key} is empty; write {replacement}{removal_hint}")

    def _bound(self, mapping: dict[str, object], node_path: NodePath, key: str) -> float | None:
        value = mapping.get(key, ...)
        if value is ... and any(RANGE_SYNONYMS.get(name) == key for name in mapping):
            return None  # the other name is reported
        if value is ...:
            self.note(node_path, "MISSING", f"{key} is missing")
        elif value is None:
            self._note_empty(node_path, key, "a number")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self.note((*node_path, key), "TYPE", f"{key} must be a number, not {value!r}{_advise(value)}")
        elif not abs(value) < 1e300:  # also refuses NaN; larger values would overflow when scaled
            self.note((*node_path, key), "BOUNDS", f"{key} is {value}; write a finite number")
        else:
            return value
        return None


def _advise(value: object) -> str:
    """What to change in a text that is a number but for its characters."""
    advice = describe_lookalike(value) if isinstance(value, str) else ""
    return advice and f"; {advice}"
