"""Does uv.lock still fit what it locks?

    uv.lock (what it records of each project of the bundle), pyproject.toml (what that declares now)
      -> the differences

uv installs from a lock file without looking at pyproject.toml (`--frozen`), so a dependency that was added
since would be missing. Told from the two files alone: no index is asked and no build backend is run, so
dependencies that a build backend provides (`dynamic`) are not compared.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from modelops_dask.bundle import Bundle
from modelops_dask.environments.declaration import LOCK, PROJECT, read_project
from modelops_dask.errors import BadInput

MOST_SHOWN = 5
_LOCAL = ("virtual", "editable", "directory")  # sources of packages that are in the bundle
# Where a package comes from: the keys of [tool.uv.sources], and those that the lock file has for them.
_KINDS = {
    "git": {"git"},
    "url": {"url"},
    "path": {"path", *_LOCAL},
    "workspace": set(_LOCAL),
}
Wanted = tuple[str, frozenset[str], SpecifierSet]  # name, extras, versions


class StaleLock(BadInput):
    """uv.lock does not have what pyproject.toml declares."""

    def __init__(self, differences: tuple[str, ...]) -> None:
        self.differences = differences
        super().__init__(differences)

    def __str__(self) -> str:
        return f"{self.reason} Update it in the bundle's folder: uv lock"

    @property
    def reason(self) -> str:
        """What differs, in a sentence."""
        more = len(self.differences) - MOST_SHOWN
        shown = [*self.differences[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        return f"The bundle's uv.lock does not fit its pyproject.toml: {'; '.join(shown)}."


def check(bundle: Bundle) -> None:
    """Raises StaleLock when the bundle has a uv.lock that does not fit its projects, BadInput when the lock
    file cannot be read.
    """
    path = bundle.path / LOCK
    if not path.is_file():
        return
    try:
        lock = tomllib.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise BadInput(f"{LOCK} of the bundle: {error}") from None
    try:
        found = tuple(_differences(bundle.path, lock))
    except (InvalidRequirement, InvalidSpecifier, AttributeError, KeyError, TypeError):
        return  # uv says what is wrong with it when it installs
    if found:
        raise StaleLock(found)


def _differences(root: Path, lock: dict[str, Any]) -> Iterable[str]:
    for package in lock.get("package", ()):
        place = next((package["source"][kind] for kind in _LOCAL if kind in package.get("source", {})), None)
        if place is None or not (root / place / PROJECT).is_file():
            continue
        project = read_project(root / place)
        file = PROJECT if place == "." else f"{place}/{PROJECT}"
        yield from _of_project(package, project, file, is_root=place == ".")
    uv = read_project(root).get("tool", {}).get("uv", {})
    for table in ("constraint", "override"):
        locked = [_locked(entry) for entry in lock.get("manifest", {}).get(f"{table}s", ())]
        declared = [_declared(Requirement(text)) for text in uv.get(f"{table}-dependencies", ())]
        yield from _compared(locked, declared, f"{table}-dependencies of {PROJECT}")


def _of_project(
    package: dict[str, Any], project: dict[str, Any], file: str, *, is_root: bool
) -> Iterable[str]:
    """What differs between a project's dependencies and what the lock file records of them."""
    table = project.get("project", {})
    recorded = package.get("metadata", {}).get("requires-dist")
    if "dependencies" in table.get("dynamic", ()) or (recorded is None and package.get("dependencies")):
        return
    needed = [Requirement(text) for text in table.get("dependencies", ())]
    entries = [entry for entry in recorded or () if "extra ==" not in entry.get("marker", "")]
    name = canonicalize_name(package["name"])
    if any(canonicalize_name(requirement.name) == name for requirement in needed):
        return  # it needs extras of its own, which uv records in another form
    yield from _compared(map(_locked, entries), map(_declared, needed), file)
    sources = project.get("tool", {}).get("uv", {}).get("sources", {})
    sources = {canonicalize_name(name): source for name, source in sources.items()}
    places = {canonicalize_name(entry["name"]): entry for entry in entries}
    for requirement in needed:
        source, entry = sources.get(name := canonicalize_name(requirement.name)), places.get(name)
        if entry and not requirement.url and (source or is_root) and not _same_place(source, entry):
            yield f"{name} comes from elsewhere in {file}"


def _compared(locked: Iterable[Wanted], declared: Iterable[Wanted], file: str) -> Iterable[str]:
    before, now = Counter(locked), Counter(declared)
    added, gone = sorted((now - before), key=str), sorted((before - now), key=str)
    for wanted in added:
        if earlier := next((each for each in gone if each[0] == wanted[0]), None):
            gone.remove(earlier)
            yield f"{file} has {_text(wanted)}, uv.lock {_text(earlier)}"
        else:
            yield f"{file} has {_text(wanted)}, uv.lock has not"
    yield from (f"uv.lock has {_text(wanted)}, {file} has not" for wanted in gone)


def _locked(entry: dict[str, Any]) -> Wanted:
    extras = frozenset(map(canonicalize_name, entry.get("extras", ())))
    return canonicalize_name(entry["name"]), extras, SpecifierSet(entry.get("specifier", ""))


def _declared(requirement: Requirement) -> Wanted:
    """Markers are not compared: uv writes them in another form."""
    extras = frozenset(map(canonicalize_name, requirement.extras))
    return canonicalize_name(requirement.name), extras, requirement.specifier


def _same_place(source: Any, entry: dict[str, Any]) -> bool:
    """Whether a package comes from where it came from when it was locked, as far as this can be told."""
    kinds = {"git", "url", "path", *_LOCAL} & entry.keys()
    if source is None:
        return not kinds
    if not isinstance(source, dict) or {"marker", "extra", "group"} & source.keys():
        return True
    kind = next((name for name in _KINDS if name in source), None)
    if kind is None or not kinds & _KINDS[kind]:
        return kind is None and not kinds
    if kind != "git":
        return True
    query = str(entry["git"]).partition("?")[2].partition("#")[0].split("&")
    wanted = {f"{name}={source[name]}" for name in ("rev", "tag", "branch") if name in source}
    return wanted == {item for item in query if item.partition("=")[0] in ("rev", "tag", "branch")}


def _text(wanted: Wanted) -> str:
    name, extras, versions = wanted
    return name + (f"[{','.join(sorted(extras))}]" if extras else "") + str(versions)
