"""Files of a bundle that declare packages but are not read.

environment.yml, [tool.poetry.dependencies], "setup.py", ... -> a line: what exists, and what to do
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modelops_dask.bundle import Bundle
from modelops_dask.environments.declaration import PROJECT, REQUIREMENTS, read, read_project
from modelops_dask.environments.imports import list_all_packages

# Files of conda, pixi, pipenv, Poetry, PDM and pip whose presence declares packages.
_FILES = (
    "environment*.yml",
    "environment*.yaml",
    "env.yml",
    "env.yaml",
    "conda*.yml",
    "conda*.yaml",
    "conda-*.lock",
    "pixi.toml",
    "pixi.lock",
    "Pipfile",
    "Pipfile.lock",
    "poetry.lock",
    "pdm.lock",
    "pylock*.toml",
    "*requirements*.txt",
    "*requirements*.in",
    "requirements/*.txt",
    "requirements/*.in",
)
# Contents that declare packages in files with other purposes.
_TEXTS = {
    "setup.py": r"\binstall_requires\b",
    "setup.cfg": r"(?m)^\s*install_requires\s*=",
    "wire.py": r"(?m)^# /// script$",
}
_TABLES = (  # of pyproject.toml
    "project.optional-dependencies",
    "dependency-groups",
    "tool.poetry.dependencies",
    "tool.poetry.group",
    "tool.pixi.dependencies",
    "tool.pixi.pypi-dependencies",
    "tool.flit.metadata.requires",
    "tool.hatch.envs.default.dependencies",
)
# Not needed to run a model.
_OTHER_USES = re.compile(r"(^|[-_./])(dev|devel|tests?|lint|docs?|typing|build|ci|python)($|[-_./])")


def find_unread(bundle: Bundle) -> list[str]:
    """Find the files and tables of a bundle that declare packages but are not read, by their names in it.

    Raises BadInput.
    """
    declaration, project = read(bundle), read_project(bundle.path)
    names = [path.relative_to(bundle.path).as_posix() for rule in _FILES for path in bundle.path.glob(rule)]
    names += [name for name, pattern in _TEXTS.items() if _has(bundle.path / name, pattern)]
    if "dependencies" in project.get("project", {}).get("dynamic", ()):  # its build backend reads its own
        names = [name for name in names if not name.endswith((".txt", ".in", "setup.py", "setup.cfg"))]
    names = [name for name in names if not _OTHER_USES.search(name)]
    names += [f"[{table}] of {PROJECT}" for table in _TABLES if _declares(project, table)]
    return sorted({*names} - {declaration.source, *declaration.included})


def hint(bundle: Bundle) -> str:
    """Advice before a model runs whose packages are declared only in files that are not read; otherwise "".

    Raises BadInput.
    """
    return "" if read(bundle).source else _line(find_unread(bundle))


def hint_on_missing_module(bundle: Bundle) -> str:
    """Advice after a model failed with ModuleNotFoundError; "" if its declaration does not explain it.

    Raises BadInput.
    """
    if line := _line(find_unread(bundle)):
        return line
    if read(bundle).source:
        return ""
    names = list_all_packages(bundle.path)
    imported = f" Its files import {', '.join(names)}." if names else ""
    return (
        "The bundle declares no packages, so its environment has none: list them as dependencies in "
        f"[project] of {PROJECT}, or in {REQUIREMENTS}, one per line.{imported}"
    )


def _line(names: list[str]) -> str:
    if not names:
        return ""
    names_text = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{names_text} of the bundle {verb} not read, so models run without the packages declared there. "
        f"List them as dependencies in [project] of {PROJECT}; or put them into the workers' image and use "
        "--set executor.environment=image."
    )


def _has(path: Path, pattern: str) -> bool:
    return path.is_file() and bool(re.search(pattern, path.read_text("utf-8", "replace")))


def _declares(project: dict[str, Any], table: str) -> bool:
    """Whether a table names packages, or groups of them, that are not only for development."""
    value: Any = project
    for key in table.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    names: Iterable[str] = value if isinstance(value, dict | list) else ()
    return any(not _OTHER_USES.search(str(name)) for name in names)
