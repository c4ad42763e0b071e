"""The function of a bundle that a task calls, from the bundle's files and the task's entrypoint.

    pyproject.toml | .modelops/manifest.json | .modelops/modelops.toml | wire.py -> "module:function"
    none of them: MODEL/SCENARIO -> "package.module.function()", called by its name

Nothing of the model is imported here: runner.py does that in the bundle's environment. A bundle's own files
take precedence over entry points of installed packages, which may belong to another model in the image.
"""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput

GROUP = "modelops.wire"
OWN_FILE = "wire.py:wire"


def find_wire(bundle: Path, entrypoint: str) -> str:
    """The reference by which runner.load_wire finds the function for tasks of an entrypoint, MODEL/SCENARIO.

    Returns:
        "module:function" or "path.py:function", a wire function that the bundle's files name; otherwise
            "package.module.function()", the MODEL, for runners to ask the installed packages for a wire
            function first; "" if the MODEL cannot be a function's name, and only the packages are asked.

    Raises:
        BadInput: A file cannot be used.
    """
    model = entrypoint.partition("/")[0]
    reference = _find_named(bundle)
    if reference == OWN_FILE and "." in model and not _mentions_wire(bundle / "wire.py"):
        reference = ""  # an ordinary module that happens to have that name
    return reference or (f"{model}()" if "." in model else "")


def _find_named(bundle: Path) -> str:
    """The wire function that a bundle's files name; "" for none."""
    points = _read(bundle / "pyproject.toml", tomllib.loads, "project", "entry-points", GROUP) or {}
    if len(points) > 1:
        names = ", ".join(sorted(points))
        raise BadInput(
            f"{bundle / 'pyproject.toml'}: entry points {names} in group {GROUP}; keep exactly one"
        )
    if points:
        return _reference(next(iter(points.values())), bundle / "pyproject.toml")
    manifest = bundle / ".modelops" / "manifest.json"
    if reference := _read(manifest, json.loads, "wire"):
        return _reference(reference, manifest)
    settings = bundle / ".modelops" / "modelops.toml"
    if reference := _read(settings, tomllib.loads, "modelops", "wire"):
        return _reference(reference, settings)
    return OWN_FILE if (bundle / "wire.py").is_file() else ""


class References:
    """find_wire() for one task after another: the files of a bundle, a checked copy, are read once."""

    def __init__(self) -> None:
        self._references: dict[tuple[Path, str], str] = {}

    def find(self, bundle: Bundle, entrypoint: str) -> str:
        """Like find_wire(); for a study with a command, its program."""
        if bundle.program:
            return bundle.program
        key = (bundle.path, entrypoint)
        reference = self._references.get(key)
        if reference is None:
            reference = self._references[key] = find_wire(bundle.path, entrypoint)
        return reference


def _mentions_wire(path: Path) -> bool:
    """Whether a file can have a function `wire`: by its text, because the function may be defined in any
    way.
    """
    return bool(re.search(rb"\bwire\b|import\s*\*", path.read_bytes()))


def _read(path: Path, parse: Callable[[str], Any], *keys: str) -> Any:
    """The value under nested keys of a file; None if the file or a key is missing."""
    if not path.is_file():
        return None
    try:
        value = parse(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _reference(value: object, source: Path) -> str:
    text = re.sub(r"\[.*\]$", "", str(value).replace(" ", ""))  # an entry point may end in [extras]
    target, _, name = text.partition(":")
    if not (target and name):
        raise BadInput(f"{source} names {value!r}; write module:function or path.py:function")
    return text
