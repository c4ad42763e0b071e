"""Values of a document, read one by one by the kind they must have.

Fields.text, integer, mapping, range, ... -> the value, or None and a finding with its line and column

A value that is wrong is None and reading goes on, so that a person sees all findings at once.
Does not know what a study is: spec.py does.
"""

import difflib
from collections.abc import Callable
from typing import Any

from modelops_dask.study import contract
from modelops_dask.study.document import NAME, Document, Finding, Where
from modelops_dask.study.sampling import Range

LARGEST_INTEGER = 2**53  # all whole numbers up to it are floats


class Fields:
    """Reads a document and collects what is wrong with it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings: list[Finding] = []  # those that refuse the file
        self.warnings: list[Finding] = []
        for finding in document.findings:
            self._add(finding)

    def note(self, where: Where, code: str, message: str) -> None:
        self._add(self.document.finding(where, code, message))

    def _add(self, finding: Finding) -> None:
        (self.warnings if finding.severity == "warning" else self.findings).append(finding)

    def names(self, mapping: dict, where: Where, known: tuple[str, ...], closed: bool = True) -> None:
        """Unknown names; with `closed` false only those that look like a slip of a known one."""
        for name in mapping:
            near = difflib.get_close_matches(name, known, 1)
            if name not in known and (closed or near):
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                self.note((*where, name, NAME), "UNKNOWN", f"{name} means nothing here; {hint}")

    def parameter(self, where: Where, value: object) -> bool:
        """Whether a value can be a parameter's."""
        try:
            contract.check_value(value)
            contract.check_value({where[-1]: None} if isinstance(where[-1], str) else None)
        except ValueError as error:
            self.note(where, "PARAMETER", str(error))
            return False
        return True

    def checked(self, raw: dict, key: str, check: Callable[[str], None]) -> str | None:
        text = self.text(raw, (), key)
        try:
            if text is not None:
                check(text)
        except ValueError as error:
            self.note((key,), "ENTRYPOINT", str(error))
        return text

    def text(self, mapping: dict, where: Where, key: str, default: Any = ...) -> Any:
        value = mapping.get(key, default)
        if value is ...:
            self.note(where, "MISSING", f"{key} is missing")
        elif value is not default and value in (None, ""):
            self._empty(where, key, "a text", optional=default is not ...)
        elif value is not default and not isinstance(value, str):
            self.note((*where, key), "TYPE", f"{key} must be text, not {value!r}")
        else:
            return value
        return None

    def mapping(self, mapping: dict, where: Where, key: str, filled: bool = False) -> dict | None:
        value = mapping.get(key, ... if filled else {})
        if value is ...:
            self.note(where, "MISSING", f"{key} is missing")
        elif value is None:
            self._empty(where, key, "names and values below it", optional=not filled)
        elif not isinstance(value, dict):
            self.note((*where, key), "TYPE", f"{key} must be a mapping of names to values")
        elif filled and not value:
            self.note((*where, key), "EMPTY", f"{key} names no parameter; write at least one")
        else:
            return value
        return None

    def integer(
        self, mapping: dict, where: Where, key: str, low: int, high: int, default: int | None = None
    ) -> int | None:
        value = mapping.get(key, default)
        if value is None and key not in mapping:
            self.note(where, "MISSING", f"{key} is missing; write a whole number, {low:,} or more")
        elif value is None:
            self._empty(where, key, f"a whole number, {low:,} or more", optional=default is not None)
        elif type(value) is not int:
            self.note((*where, key), "TYPE", f"{key} must be a whole number, not {value!r}")
        elif not low <= value <= high:
            self.note((*where, key), "RANGE", f"{key} is {value:,}; it must be from {low:,} to {high:,}")
        else:
            return value
        return None

    def range(self, mapping: dict, where: Where, extra: tuple[str, ...]) -> Range | None:
        """{low, high[, scale][, …]}."""
        before = len(self.findings)
        self.names(mapping, where, ("low", "high", "scale", *extra))
        low, high = (self._bound(mapping, where, key) for key in ("low", "high"))
        log, integer = mapping.get("scale", "linear") == "log", mapping.get("integer", False)
        if mapping.get("scale", "linear") is None:
            self._empty(where, "scale", "linear or log", optional=True)
        elif mapping.get("scale", "linear") not in ("linear", "log"):
            self.note((*where, "scale"), "VALUE", f"scale is {mapping['scale']!r}; write linear or log")
        if integer is None and "integer" in extra:
            self._empty(where, "integer", "true or false", optional=True)
        elif not isinstance(integer, bool) and "integer" in extra:
            self.note((*where, "integer"), "TYPE", f"integer must be true or false, not {integer!r}")
        if low is not None and high is not None:
            if low >= high:
                self.note(
                    (*where, "low"), "BOUNDS", f"low {low} is not below high {high}; exchange or mend them"
                )
            if log and low <= 0:
                self.note((*where, "low"), "BOUNDS", f"low is {low}; a logarithmic scale begins above 0")
            if integer is True and (low % 1 or high % 1):
                self.note(
                    (*where, "low"), "BOUNDS", f"low {low} and high {high} must be whole numbers with integer"
                )
            if integer is True and max(abs(low), abs(high)) > LARGEST_INTEGER:
                self.note(
                    (*where, "high"), "BOUNDS", "with integer, bounds go to 2^53; beyond it some are skipped"
                )
        if len(self.findings) > before:
            return None
        return Range(int(low), int(high), log, True) if integer is True else Range(low, high, log)

    def _empty(self, where: Where, key: str, instead: str, optional: bool = False) -> None:
        """A name that nothing follows."""
        out = ", or remove it" if optional else ""
        self.note((*where, key), "EMPTY", f"{key} is empty; write {instead}{out}")

    def _bound(self, mapping: dict, where: Where, key: str) -> float | None:
        value = mapping.get(key, ...)
        if value is ...:
            self.note(where, "MISSING", f"{key} is missing")
        elif value is None:
            self._empty(where, key, "a number")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self.note((*where, key), "TYPE", f"{key} must be a number, not {value!r}")
        elif not abs(value) < 1e300:  # also refuses NaN; more would overflow when it is scaled
            self.note((*where, key), "BOUNDS", f"{key} is {value}; write a finite number")
        else:
            return value
        return None
