"""The file of a bundle that declares its packages, and everything that determines these packages.

    uv.lock | pyproject.toml | requirements.txt
      -> included files, local paths, settings of uv, variables -> a digest, and the options of the index

Two bundles with the same digest have the same packages. The opposite need not hold: if it is unclear which
files of a bundle matter (a build backend may read any of them), all of them count.
"""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.reference import redact
from modelops_dask.errors import BadInput

LOCK, PROJECT, REQUIREMENTS = "uv.lock", "pyproject.toml", "requirements.txt"
SOURCE_TREE = ("pyproject.toml", "setup.py", "setup.cfg")  # commands for which a build backend is called
MOST_FILES = 10_000  # files of a folder that are examined

_FROM_PROJECT = ("name", "requires-python", "dependencies", "optional-dependencies", "dynamic")
# Variables of uv that affect the choice of packages; others control speed or the cache.
_VARIABLES = re.compile(
    "UV_(.*INDEX.*|FIND_LINKS|.*CONSTRAINT.*|OVERRIDES?|EXCLUDES?|EXCLUDE_NEWER.*|PRERELEASE.*|RESOLUTION"
    "|FORK_STRATEGY|NO_SOURCES.*|NO_BINARY.*|NO_BUILD.*|ONLY_BINARY.*|TORCH_BACKEND|CONFIG_FILE|NO_CONFIG"
    "|CONFIG_SETTINGS?.*|DEV|NO_DEV|.*GROUP.*|.*EXTRA.*)"
)
_OPTION = re.compile(r"(--[a-z-]+|-[a-z])[\s=]*(.*)")  # also -rbase.txt
_PATH = re.compile(r"/|\.(whl|zip|tar|tgz|gz|bz2|xz)$")
_PASSWORD = re.compile(r"https?://([^/\s@$]+)@([^/\s]+)")  # USER:PASSWORD@HOST; a variable does not count
_INCLUDES = ("-r", "--requirement", "--requirements", "-c", "--constraint", "--constraints")
_INDEX_OPTIONS = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--no-index": "--no-index",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
}


@dataclass(frozen=True)
class Declaration:
    """What a bundle declares.

    Attributes:
        source: The file that uv reads: uv.lock, pyproject.toml, requirements.txt, or "" for none.
        digest: Of everything that determines the packages, in hexadecimal digits.
        settings_digest: Of what determines them besides the declaration, such as uv's settings.
        options: Lines of requirements files that name package sources, with absolute paths.
        passwords: Of URLs in requirements files, by host.
        included: The requirements files that are read.
        missing: Requirements by a path that does not exist, with their positions.
    """

    source: str
    digest: str
    settings_digest: str
    options: tuple[str, ...] = field(default=(), repr=False)
    passwords: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    included: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def read(bundle: Bundle) -> Declaration:
    """Read a bundle's declaration. Raises BadInput for a file that cannot be read."""
    project = read_project(bundle.path)
    source, deciding = _source(bundle.path, project), _PackageDigest(bundle)
    deciding.add("source", source)
    deciding.settings(project)
    settings_digest = deciding.digest()
    if source == REQUIREMENTS:
        deciding.requirements(bundle.path / REQUIREMENTS)
    elif source:
        deciding.project(project)
    if source == LOCK:
        deciding.lock(bundle.path / LOCK)
    return Declaration(
        source,
        deciding.digest(),
        settings_digest,
        options=tuple(deciding.options),
        passwords=deciding.passwords,
        included=tuple(deciding.included),
        missing=tuple(deciding.missing),
    )


def read_project(folder: Path) -> dict[str, Any]:
    """Read pyproject.toml of a folder, {} if there is none. Raises BadInput."""
    path = folder / PROJECT
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig")) if path.is_file() else {}
    except ValueError as error:
        raise BadInput(f"{PROJECT} of the bundle: {error}") from None


def _source(folder: Path, project: dict[str, Any]) -> str:
    """The file that declares the packages."""
    if (folder / LOCK).is_file():
        return LOCK
    if table := project.get("project"):
        return PROJECT if table.get("dependencies") or "dependencies" in table.get("dynamic", ()) else ""
    return REQUIREMENTS if (folder / REQUIREMENTS).is_file() else ""


class _PackageDigest:
    """A digest over everything that determines the packages; each file counts once, however often it is
    included.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.options: list[str] = []
        self.passwords: dict[str, str] = {}
        self.included: list[str] = []
        self.missing: list[str] = []
        self._bundle, self._root = bundle, bundle.path.resolve()
        self._total = hashlib.sha256()
        self._done: set[Path] = set()

    def digest(self) -> str:
        return self._total.hexdigest()

    def add(self, name: str, content: bytes | str) -> None:
        """Add data to the digest; its length keeps neighbours from being confused."""
        data = content.encode() if isinstance(content, str) else content
        self._total.update(f"{name}\0{len(data)}\0".encode() + data)

    def settings(self, project: dict[str, Any]) -> None:
        """Other settings that uv reads: [tool.uv], uv.toml here, in parent folders and of the user, its
        variables.
        """
        folder = self._bundle.path
        uv = project.get("tool", {}).get("uv", {})
        self.table("tool.uv", uv)
        if "workspace" in uv or re.search(
            '"(path|workspace)": ', json.dumps(uv.get("sources", {}), default=str)
        ):
            self.everything()
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
        above = [parent / name for parent in folder.parents for name in ("uv.toml", PROJECT)]
        for path in (folder / "uv.toml", *above, home / "uv/uv.toml", Path("/etc/uv/uv.toml")):
            if path.is_file() and self.file(path):
                self.table(path.name, _toml(path))
        for name, value in sorted(os.environ.items()):
            if _VARIABLES.fullmatch(name):
                self.add(name, redact(value))
                for word in value.split():
                    self.local(word, folder)

    def project(self, project: dict[str, Any]) -> None:
        """The tables of pyproject.toml that declare packages."""
        table = project.get("project", {})
        declared = {name: table.get(name) for name in _FROM_PROJECT}
        for name in ("dependency-groups", "build-system"):
            declared[name] = project.get(name)
        self.add("project", json.dumps(declared, sort_keys=True, default=str))
        for line in _texts([table.get("dependencies"), table.get("optional-dependencies")]):
            self.requirement(line)
        if "dependencies" in table.get("dynamic", ()):  # from files that only its build backend knows
            self.everything()

    def lock(self, path: Path) -> None:
        """Add uv.lock, and the packages that it takes from folders."""
        self.file(path)
        for value in re.findall(
            r'\b(?:editable|directory|path) = "([^"]+)"', path.read_text("utf-8", "replace")
        ):
            if value != ".":  # the project itself is not installed
                self.local(value, self._bundle.path)

    def requirements(self, path: Path) -> None:
        """Add a requirements file and the files that it includes or names."""
        name = self._name(path.resolve())
        if name in self.included:  # they may include each other
            return
        self.included.append(name)
        self.file(path)
        for number, line in _lines(path.read_bytes().decode("utf-8-sig", "replace")):
            if "${" in line:
                self.add("variables", redact(os.path.expandvars(line)))
            self.passwords |= {
                host: user for user, host in re.findall(r"https?://([^/\s@]+)@([^/\s]+)", line)
            }
            if option := _OPTION.fullmatch(line):
                self.option(option[1], option[2], path.parent)
            else:
                self.requirement(line, f"{name}:{number}")

    def option(self, name: str, value: str, folder: Path) -> None:
        """Add an option of a requirements file."""
        if name in _INCLUDES:
            if target := _existing(value, folder, self._bundle.path):
                self.requirements(target)
        elif flag := _INDEX_OPTIONS.get(name):
            target = self.local(value, folder)
            self.options.append(f"{flag} {target or value}".rstrip())
        else:
            self.requirement(value)

    def requirement(self, line: str, place: str = PROJECT) -> None:
        """Add a requirement; a requirement by path adds the files at that path. uv resolves it from the
        bundle's folder, even if a file in another folder names it.
        """
        direct_reference = re.fullmatch(r"[\w.-]+\s*(?:\[[^\]]*\])?\s*@\s*(.+)", line)
        value = re.split(r"\s+(?:;|--hash)|\s*#", direct_reference[1] if direct_reference else line)[0]
        value = re.sub(r"\[[^\]]*\]$", "", value.strip())  # extras
        is_path = direct_reference or _PATH.search(value) or value.startswith(".")
        if is_path and not self.local(value, self._bundle.path) and value.startswith("file:/"):
            self.missing.append(f"{place}: {line}")

    def table(self, name: str, value: Any) -> None:
        """Add a table of TOML; every text in it that is a path adds the files at that path."""
        self.add(name, json.dumps(value, sort_keys=True, default=str))
        for text in _texts(value):
            self.local(text, self._bundle.path)

    def local(self, value: str, folder: Path) -> Path | None:
        """Add the target of a path; None if it does not exist, as for a URL or a name."""
        target = _existing(value, folder, self._bundle.path)
        if target is None:
            return None
        if target.is_file():
            self.file(target)
        elif any((target / name).is_file() for name in SOURCE_TREE) and self.is_inside(target):
            self.everything()
        else:
            self.folder(target)
        return target

    def is_inside(self, target: Path) -> bool:
        return target.is_relative_to(self._root)

    def everything(self) -> None:
        """Add the whole bundle."""
        self.add("bundle", self._bundle.digest)

    def file(self, path: Path) -> bool:
        """Add the content of a file; False if it was already added."""
        resolved = path.resolve()
        if resolved in self._done:
            return False
        self._done.add(resolved)
        try:
            self.add(self._name(resolved), resolved.read_bytes())
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror or error}") from None
        return True

    def folder(self, target: Path) -> None:
        """Add the files of a folder: in the bundle by content; elsewhere, where they may be large, by size
        and time.
        """
        for path in islice(_files(target), MOST_FILES):
            if self.is_inside(path.resolve()):
                self.file(path)
            else:
                status = path.stat()
                self.add(str(path), f"{status.st_size} {status.st_mtime_ns}")

    def _name(self, path: Path) -> str:
        """The path in the bundle, so that the location of its copy does not count."""
        return path.relative_to(self._root).as_posix() if self.is_inside(path) else str(path)


def _toml(path: Path) -> dict[str, Any]:
    """A settings file of uv, {} if uv will report an error."""
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content.get("tool", {}).get("uv", {}) if path.name == PROJECT else content


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines of a requirements file, without comments, each with the number of its first line."""
    joined = re.sub(r"\\\r?\n", "\0", text)
    number = 1
    for line in joined.splitlines():
        if bare := re.sub(r"(^|\s+)#.*$", "", line.replace("\0", " ")).strip():
            yield number, bare
        number += 1 + line.count("\0")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder and its subfolders, ordered by name."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(parent, name)).is_file())


def _existing(value: str, folder: Path, root: Path) -> Path | None:
    """The file or folder at a path, relative to the folder of the file that has it or to the bundle."""
    text = os.path.expandvars(value.strip().strip("'\"").replace("${PROJECT_ROOT}", str(root)))
    if text.startswith("file:"):
        text = unquote(re.sub("^file:(//(localhost)?(?=/))?", "", text)).partition("#")[0]
    if not text or "://" in text or "\0" in text:
        return None
    try:
        paths = [(base / Path(text).expanduser()).resolve() for base in (folder, root)]
        return next((path for path in paths if path.exists()), None)
    except (OSError, RuntimeError):  # the name is too long, a link points to itself, or the user is unknown
        return None
