"""Whether uv.lock still matches the projects that it locks.

    uv.lock (its record of each project of the bundle), pyproject.toml (the current declaration)
      -> the differences

uv installs from a lock file without reading pyproject.toml (`--frozen`), so a dependency added later would be
missing. Only the two files are compared: no index is contacted and no build backend runs, so dependencies
that a build backend provides (`dynamic`) are not compared.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from modelops_dask.bundle import Bundle
from modelops_dask.environments.declaration import LOCK, PROJECT, read_project
from modelops_dask.errors import BadInput

MOST_SHOWN = 5
_LOCAL = ("virtual", "editable", "directory")  # sources of packages in the bundle
# The source of a package: the keys of [tool.uv.sources] and their names in the lock file.
_KINDS = {
    "git": {"git"},
    "url": {"url"},
    "path": {"path", *_LOCAL},
    "workspace": set(_LOCAL),
}
# uv writes markers in another form, so the environments in which they hold are compared: these systems and
# Pythons.
_SYSTEMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
)
_MACHINES = ("x86_64", "aarch64", "arm64", "AMD64")
_PYTHONS = tuple(f"3.{minor}" for minor in range(8, 16))
_IMPLEMENTATIONS = (("cpython", "CPython"), ("pypy", "PyPy"))


@dataclass(frozen=True)
class PackageRequirement:
    """A requirement; `environments` are the numbers of the environments in which its marker holds."""

    name: str
    extras: frozenset[str]
    versions: SpecifierSet
    environments: frozenset[int]
    marker: str = field(default="", compare=False)

    def __str__(self) -> str:
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        return f"{self.name}{extras}{self.versions}" + (f" ; {self.marker}" if self.marker else "")


class StaleLock(BadInput):
    """uv.lock does not match the declarations of pyproject.toml."""

    def __init__(self, differences: tuple[str, ...]) -> None:
        self.differences = differences
        super().__init__(differences)

    def __str__(self) -> str:
        return f"{self.reason} Update it in the bundle's folder: uv lock"

    @property
    def reason(self) -> str:
        """The differences, as a sentence."""
        n_more = len(self.differences) - MOST_SHOWN
        parts = [*self.differences[:MOST_SHOWN], *([f"and {n_more} more"] if n_more > 0 else [])]
        return f"The bundle's uv.lock does not fit its pyproject.toml: {'; '.join(parts)}."


def check(bundle: Bundle) -> None:
    """Compare a bundle's uv.lock with its projects.

    Raises:
        StaleLock: The lock file does not match the projects.
        BadInput: The lock file cannot be read.
    """
    path = bundle.path / LOCK
    if not path.is_file():
        return
    try:
        lock = tomllib.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise BadInput(f"{LOCK} of the bundle: {error}") from None
    try:
        differences = tuple(_differences(bundle.path, lock))
    except (InvalidRequirement, InvalidSpecifier, InvalidMarker, AttributeError, KeyError, TypeError):
        return  # uv reports its problems when it installs
    if differences:
        raise StaleLock(differences)


def _differences(root: Path, lock: dict[str, Any]) -> Iterable[str]:
    pythons = SpecifierSet(lock.get("requires-python", ""))
    for package in lock.get("package", ()):
        place = next((package["source"][kind] for kind in _LOCAL if kind in package.get("source", {})), None)
        if place is None or not (root / place / PROJECT).is_file():
            continue
        project = read_project(root / place)
        file = PROJECT if place == "." else f"{place}/{PROJECT}"
        yield from _of_project(package, project, file, pythons, is_root=place == ".")
    uv = read_project(root).get("tool", {}).get("uv", {})
    for table in ("constraint", "override"):
        locked = [_parse_locked(entry, pythons) for entry in lock.get("manifest", {}).get(f"{table}s", ())]
        declared = [
            _parse_declared(Requirement(text), pythons) for text in uv.get(f"{table}-dependencies", ())
        ]
        yield from _compare(locked, declared, f"{table}-dependencies of {PROJECT}")


def _of_project(
    package: dict[str, Any], project: dict[str, Any], file: str, pythons: SpecifierSet, *, is_root: bool
) -> Iterable[str]:
    """The differences between a project's dependencies and their record in the lock file."""
    table = project.get("project", {})
    recorded = package.get("metadata", {}).get("requires-dist")
    if "dependencies" in table.get("dynamic", ()) or (recorded is None and package.get("dependencies")):
        return
    needed = [Requirement(text) for text in table.get("dependencies", ())]
    entries = [entry for entry in recorded or () if "extra ==" not in entry.get("marker", "")]
    name = canonicalize_name(package["name"])
    if any(canonicalize_name(requirement.name) == name for requirement in needed):
        return  # it needs its own extras, which uv records in another form
    locked = [_parse_locked(entry, pythons) for entry in entries]
    yield from _compare(locked, [_parse_declared(requirement, pythons) for requirement in needed], file)
    sources = project.get("tool", {}).get("uv", {}).get("sources", {})
    sources = {canonicalize_name(name): source for name, source in sources.items()}
    places = {canonicalize_name(entry["name"]): entry for entry in entries}
    for requirement in needed:
        source, entry = sources.get(name := canonicalize_name(requirement.name)), places.get(name)
        if entry and not requirement.url and (source or is_root) and not _is_same_place(source, entry):
            yield f"{name} has another source in {file}"


def _compare(
    locked: Iterable[PackageRequirement], declared: Iterable[PackageRequirement], file: str
) -> Iterable[str]:
    # A requirement that holds in no environment is not installed, and uv may leave it out.
    before, now = (
        Counter(requirement for requirement in requirements if requirement.environments)
        for requirements in (locked, declared)
    )
    added, gone = sorted((now - before), key=str), sorted((before - now), key=str)
    for requirement in added:
        if earlier := next(
            (
                earlier_requirement
                for earlier_requirement in gone
                if earlier_requirement.name == requirement.name
            ),
            None,
        ):
            gone.remove(earlier)
            yield f"{file} has {requirement}, uv.lock {earlier}"
        else:
            yield f"{file} has {requirement}, uv.lock does not"
    yield from (f"uv.lock has {requirement}, {file} does not" for requirement in gone)


def _parse_locked(entry: dict[str, Any], pythons: SpecifierSet) -> PackageRequirement:
    extras = frozenset(map(canonicalize_name, entry.get("extras", ())))
    versions, marker = SpecifierSet(entry.get("specifier", "")), entry.get("marker", "")
    return PackageRequirement(
        canonicalize_name(entry["name"]), extras, versions, _environments(marker, pythons), marker
    )


def _parse_declared(requirement: Requirement, pythons: SpecifierSet) -> PackageRequirement:
    extras = frozenset(map(canonicalize_name, requirement.extras))
    name, marker = canonicalize_name(requirement.name), str(requirement.marker or "")
    return PackageRequirement(name, extras, requirement.specifier, _environments(marker, pythons), marker)


@lru_cache(maxsize=256)
def _environments(marker: str, pythons: SpecifierSet) -> frozenset[int]:
    """The environments in which a marker holds, among those whose Python the project supports."""
    environments = _known_environments(pythons)
    if not marker:
        return frozenset(range(len(environments)))
    parsed = Marker(marker)
    return frozenset(
        number for number, environment in enumerate(environments) if parsed.evaluate(environment)
    )


@lru_cache(maxsize=16)
def _known_environments(pythons: SpecifierSet) -> Sequence[dict[str, str]]:
    versions = [(version, f"{version}.{micro}") for version in _PYTHONS for micro in (0, 99)]
    supported = [version for version in versions if pythons.contains(version[1])]
    return [
        {
            **system,
            "platform_machine": machine,
            "python_version": version,
            "python_full_version": full_version,
            "implementation_name": name,
            "platform_python_implementation": implementation,
            "implementation_version": full_version,
            "platform_release": "",
            "platform_version": "",
            "extra": "",
        }
        for system, machine, (version, full_version), (name, implementation) in product(
            _SYSTEMS, _MACHINES, supported or versions, _IMPLEMENTATIONS
        )
    ]


def _is_same_place(source: Any, entry: dict[str, Any]) -> bool:
    """Whether a package has the same source as when it was locked, as far as this can be determined."""
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
    revision = {f"{name}={source[name]}" for name in ("rev", "tag", "branch") if name in source}
    return revision == {item for item in query if item.partition("=")[0] in ("rev", "tag", "branch")}
