"""Which function of a bundle a task calls, read from the bundle's files.

    pyproject.toml | .modelops/manifest.json | .modelops/modelops.toml | wire.py -> "module:function"

Imports nothing of the model: runner.py does, in the bundle's environment. A bundle's own files come before
entry points of installed packages, which may belong to another model that the image holds.
"""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput

GROUP = "modelops.wire"


def find_wire(bundle: Path) -> str:
    """What a bundle's files name as its wire function: "module:function", "path.py:function", or "" for none.

    With "" runner.load_wire asks the installed packages. Raises BadInput for a file that cannot be used.
    """
    points = _read(bundle / "pyproject.toml", tomllib.loads, "project", "entry-points", GROUP) or {}
    if len(points) > 1:
        names = ", ".join(sorted(points))
        raise BadInput(
            f"{bundle / 'pyproject.toml'}: entry points {names} in group {GROUP}; leave exactly one"
        )
    if points:
        return _reference(next(iter(points.values())), bundle / "pyproject.toml")
    manifest = bundle / ".modelops" / "manifest.json"
    if reference := _read(manifest, json.loads, "wire"):
        return _reference(reference, manifest)
    settings = bundle / ".modelops" / "modelops.toml"
    if reference := _read(settings, tomllib.loads, "modelops", "wire"):
        return _reference(reference, settings)
    return "wire.py:wire" if (bundle / "wire.py").is_file() else ""


def _read(path: Path, parse: Callable[[str], Any], *keys: str) -> Any:
    """The value under nested keys of a file; None when the file or a key is missing."""
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
