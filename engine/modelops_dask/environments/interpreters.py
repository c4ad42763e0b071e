"""The Python version that a bundle's models run with.

    requires-python of pyproject.toml and uv.lock, executor.python, the Python of the study -> PythonRequest
      -> the worker's own Python, if it is suitable
      -> otherwise the nearest that is installed or that uv may download: find_python()
      -> otherwise NoPython: the request and its origin, the installed versions, what to write

A worker searches; check_request() reports in advance, from the files alone, requests that no machine can
fulfil.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from modelops_dask.bundle import Bundle
from modelops_dask.environments import uv
from modelops_dask.environments.declaration import LOCK, PROJECT
from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings

NEWLINE = "\n"
OFFLINE = "but uv is set to offline mode"  # uv's message when it would download
OLDEST = (3, 9)  # that a runner can start with
_LINE = re.compile(r"^[ \t]*[\"']?requires-python[\"']?[ \t]*=[ \t]*", re.MULTILINE)
_ONE_VERSION = re.compile(r"==([0-9]+\.[0-9]+)")
_TOO_OLD = re.compile(r"3\.[0-8]\b")
_PROBE = """
import json, sys, sysconfig
print(json.dumps([sys.implementation.name, sys.version_info[:3], sysconfig.get_platform()]))
"""
# Versions to test whether any is suitable: these of each minor version.
_MICROS = range(40)
_MINORS = range(40)


@dataclass(frozen=True)
class Interpreter:
    """A Python: its path, and the properties that its environments and packages depend on."""

    path: str
    implementation: str  # cpython
    release: tuple[int, int, int]
    platform: str  # linux-x86_64

    @property
    def version(self) -> str:
        return _dotted(self.release)

    @property
    def minor_version(self) -> str:
        return _dotted(self.release[:2])

    @property
    def tag(self) -> str:
        """The version and platform in the names and digests of environments: cp3.12.1-linux-x86_64."""
        return f"{self.implementation[0]}p{self.version}-{self.platform}".replace("/", "_")

    @property
    def kind(self) -> str:
        """The version and platform to which a list of packages applies: cp312-linux_x86_64."""
        version = f"{self.implementation[0]}p{self.release[0]}{self.release[1]}"
        return f"{version}-{self.platform.replace('-', '_')}".replace("/", "_")


@dataclass(frozen=True)
class VersionRule:
    """A rule for the version, as text, and its origin."""

    versions: SpecifierSet
    text: str
    place: str


@dataclass(frozen=True)
class PythonRequest:
    """The Python that a bundle and the settings request. `folder` is the bundle's, for settings of uv."""

    rules: tuple[VersionRule, ...]
    folder: Path

    def accepts(self, release: Sequence[int]) -> bool:
        """Whether models can run with this version."""
        version = _dotted(release)
        return tuple(release) >= OLDEST and all(each.versions.contains(version) for each in self.rules)

    def __str__(self) -> str:
        """The request and its origin: "sir/pyproject.toml:4:19: the model needs Python >=3.12;"."""
        return " and ".join(f"{each.place}: {each.text}" for each in self.rules) + ";"

    def as_specifiers(self) -> str:
        """The request in the form of requires-python: >=3.12,<3.14,>=3.9."""
        texts = [str(each.versions) for each in self.rules]
        older = [f"3.{minor}.{micro}" for minor in range(OLDEST[1]) for micro in _MICROS]
        if any(all(each.versions.contains(version) for each in self.rules) for version in older):
            texts.append(f">={_dotted(OLDEST)}")
        return ",".join(texts)


class NoPython(BadInput):
    """No suitable Python for a bundle is available. `problem` says why, `advice` what to do."""

    def __init__(self, request: PythonRequest, problem: str, advice: str) -> None:
        super().__init__(request, problem, advice)
        self.request, self.problem, self.advice = request, problem, advice

    def __str__(self) -> str:
        return f"{self.request} {self.problem}. {self.advice}"


@lru_cache(maxsize=1)
def own_interpreter() -> Interpreter:
    """The Python of this process."""
    release = sys.version_info[:3]
    return Interpreter(sys.executable, sys.implementation.name, release, sysconfig.get_platform())


def read_request(bundle: Bundle, settings: Settings) -> PythonRequest:
    """Read the request of a bundle and the settings. Raises BadInput for a requires-python that cannot be
    read.
    """
    rules = list(_read_declared(bundle))
    if settings.executor_python:
        version = settings.executor_python
        text = f"the values ask for Python {version}"
        rules.append(VersionRule(_parse_version(version), text, "executor.python"))
    return PythonRequest(tuple(rules), bundle.path)


def check_request(bundle: Bundle, settings: Settings) -> PythonRequest:
    """Refuse a request that no machine can fulfil; otherwise return it. Raises NoPython, BadInput."""
    request = read_request(bundle, settings)
    if request.accepts(own_interpreter().release) or _is_possible(request):
        return request
    if all(_is_possible(PythonRequest((each,), request.folder)) for each in request.rules):
        raise NoPython(request, "no version fits all of these", "Change one of them.")
    if rule := next((each for each in request.rules if not _fits_any(each.versions)), None):
        example = f'requires-python = ">={_dotted(OLDEST)}"'
        raise NoPython(
            PythonRequest((rule,), request.folder),
            "no version of Python 3 fits that",
            f"Correct it in {PROJECT}: {example} allows all that models can run with here.",
        )
    raise NoPython(
        request,
        f"models need Python {_dotted(OLDEST)} or newer",
        f"Port the model to a newer Python, and change requires-python in {PROJECT}.",
    )


def _is_possible(request: PythonRequest) -> bool:
    """Whether any version is suitable."""
    return any(request.accepts((3, minor, micro)) for minor in _MINORS for micro in _MICROS)


def _fits_any(versions: SpecifierSet) -> bool:
    """Whether any Python fits, including those that models cannot run with here."""
    numbers = (f"{major}.{minor}.{micro}" for major in (2, 3) for minor in _MINORS for micro in _MICROS)
    return any(map(versions.contains, numbers))


def check_machine(bundle: Bundle, settings: Settings) -> None:
    """Refuse a bundle that cannot run on this machine, without downloading anything.

    Raises NoPython, BadInput, NoUv.
    """
    request = check_request(bundle, settings)
    check_own(request, settings)
    if not settings.builds_environment or _find_installed(request, request):
        return
    problem = _download(request, settings, offline=True)
    if OFFLINE not in problem:
        raise NoPython(request, _describe_installed(request), _advise_install(request, problem))


def find_python(bundle: Bundle, settings: Settings) -> Interpreter:
    """Find a Python for a bundle on this machine.

    It is this process's own if suitable, otherwise the nearest suitable installed one, otherwise one that uv
    downloads if that is allowed.

    Raises NoPython, BadInput, NoUv.
    """
    request = check_request(bundle, settings)
    preferred = _prefer_version_of_study(request, bundle, settings)
    if not settings.builds_environment:
        check_own(request, settings)
        return own_interpreter()
    if python := _find_installed(preferred, request):
        return python
    problem = _download(request, settings)
    if python := _find_installed(request, request):
        return python
    raise NoPython(request, _describe_installed(request), _advise_install(request, problem))


def _find_installed(preferred: PythonRequest, request: PythonRequest) -> Interpreter | None:
    """This process's own Python or an installed one that is suitable; a preferred one, if any."""
    own = own_interpreter()
    if preferred.accepts(own.release):
        return own
    installed = list_installed(request.folder)
    return _nearest(preferred, installed) or _nearest(request, [own, *installed])


def check_own(request: PythonRequest, settings: Settings) -> None:
    """Refuse a bundle that is not compatible with this process's own Python, if models run with it.

    Raises NoPython.
    """
    own = own_interpreter()
    if not settings.builds_environment and not request.accepts(own.release):
        setting = (
            "executor.type=direct" if settings.executor_type == "direct" else "executor.environment=image"
        )
        raise NoPython(
            request,
            f"with {setting}, models run with the worker's own Python, which is {own.version}",
            "Use an image with a suitable Python, or --set executor.environment=bundle"
            + (" and another executor.type." if settings.executor_type == "direct" else "."),
        )


def _prefer_version_of_study(request: PythonRequest, bundle: Bundle, settings: Settings) -> PythonRequest:
    """Narrow the request to the version that the study has used so far, unless the settings name one."""
    if not bundle.python or settings.executor_python:
        return request
    study = VersionRule(_parse_version(bundle.python), "", "")
    return PythonRequest((*request.rules, study), request.folder)


def _parse_version(version: str) -> SpecifierSet:
    """The versions that 3.12 or 3.12.4 stands for."""
    return SpecifierSet(f"=={version}" + (".*" if version.count(".") < 2 else ""))


def _dotted(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))


def _read_declared(bundle: Bundle) -> Iterator[VersionRule]:
    """requires-python of the bundle's project and, if it determines the packages, of its lock file."""
    declared: list[SpecifierSet] = []
    for name in (PROJECT, LOCK):
        path = bundle.path / name
        if not path.is_file():
            continue
        try:
            text = path.read_bytes().decode("utf-8-sig")
            if name == LOCK:  # the rest may be long
                text = text.partition("[[package]]")[0]
            content = tomllib.loads(text)
        except ValueError as error:
            raise BadInput(f"{name} of the bundle: {error}") from None
        table = content.get("project", {}) if name == PROJECT else content
        required = table.get("requires-python", "")
        place = _find_place(bundle, name, text)
        if not isinstance(required, str):
            raise BadInput(f'{place}: requires-python must be text, such as ">=3.10"')
        try:
            versions = SpecifierSet(required)
        except InvalidSpecifier as error:
            version = required.strip()
            is_version = re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", version)
            form = f'">={version}" or "=={version}.*"' if is_version else 'versions such as ">=3.10,<3.13"'
            raise BadInput(f"{place}: requires-python: {error}; write {form}") from None
        if required and versions not in declared:
            declared.append(versions)
            yield VersionRule(versions, f"the model needs Python {required}", place)


def _find_place(bundle: Bundle, name: str, text: str) -> str:
    """FILE:LINE:COLUMN of the value of requires-python, with the path that the user knows, not that of the
    cached copy.
    """
    file = str(Path(bundle.origin, name)) if bundle.origin and Path(bundle.origin).is_dir() else name
    match = _LINE.search(text, max(0, text.find("[project]")) if name == PROJECT else 0)
    if not match:
        return file
    offset = match.end()
    return f"{file}:{text.count(NEWLINE, 0, offset) + 1}:{offset - text.rfind(NEWLINE, 0, offset)}"


def _nearest(request: PythonRequest, installed: Sequence[Interpreter]) -> Interpreter | None:
    """The suitable version nearest to this process's own; the newest of equally near ones."""
    own_minor = own_interpreter().release[1]
    fitting = [each for each in installed if request.accepts(each.release)]
    return max(fitting, key=lambda each: (-abs(each.release[1] - own_minor), each.release), default=None)


def list_installed(folder: Path) -> Sequence[Interpreter]:
    """The suitable CPythons of this machine by version: installed by uv, on PATH, or installed by pyenv.

    `folder` may have settings of uv. Raises NoUv.
    """
    return _list_installed(folder, _search_path())


@lru_cache(maxsize=8)
def _list_installed(folder: Path, search_path: str) -> Sequence[Interpreter]:
    arguments = ("python", "list", "--only-installed", "--output-format", "json")
    process = uv.try_uv(*arguments, folder=folder, variables={"PATH": search_path})
    try:
        entries = json.loads(process.stdout)
    except ValueError:
        raise uv.NoUv(
            f"uv cannot list the Pythons of this machine: {uv.last_lines(process.stderr)}"
        ) from None
    paths = {
        os.path.realpath(entry["path"])
        for entry in entries
        if entry["implementation"] == "cpython"
        and entry.get("variant", "default") == "default"
        and (entry["version_parts"]["major"], entry["version_parts"]["minor"]) >= OLDEST
    }
    return sorted(filter(None, map(_probe, paths)), key=lambda each: (each.release, each.path))


def _probe(path: str) -> Interpreter | None:
    """The interpreter at a path; None if it does not start."""
    try:
        process = subprocess.run([path, "-I", "-c", _PROBE], capture_output=True, text=True, check=True)
        implementation, release, platform = json.loads(process.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(path, implementation, tuple(release), platform)


def _search_path() -> str:
    """PATH for uv with all Pythons of pyenv, whose shims start only the activated ones."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    without_shims = [folder for folder in folders if Path(folder) != pyenv / "shims"]
    of_pyenv = [
        path for path in sorted(pyenv.glob("versions/3.*/bin")) if not _TOO_OLD.match(path.parent.name)
    ]
    return os.pathsep.join([*without_shims, *map(str, of_pyenv)])


def _download(request: PythonRequest, settings: Settings, *, offline: bool = False) -> str:
    """Let uv download a Python if its settings allow it. Returns uv's message if it did not."""
    variables = {"PATH": _search_path()}
    if settings.python_downloads:
        variables["UV_PYTHON_DOWNLOADS"] = "automatic"
    if offline:
        variables["UV_OFFLINE"] = "1"
    else:
        uv.tell(f"looking for Python {request.as_specifiers()}")
    with tempfile.TemporaryDirectory(prefix="modelops-python-") as folder:
        arguments = ("venv", "--no-project", "--python", request.as_specifiers(), f"{folder}/venv")
        process = uv.try_uv(*arguments, folder=request.folder, variables=variables)
    _list_installed.cache_clear()
    return uv.last_lines(process.stderr) if process.returncode else ""


def _describe_installed(request: PythonRequest) -> str:
    """The installed Pythons, each version once."""
    installed = [*list_installed(request.folder), own_interpreter()]
    versions = {each.release: each.path for each in installed}
    listed = ", ".join(f"{_dotted(release)} ({versions[release]})" for release in sorted(versions))
    return f"only these are installed: {listed}"


def _advise_install(request: PythonRequest, problem: str) -> str:
    """Advice if no installed Python is suitable and uv did not download one, based on uv's message."""
    installed = [python.version for python in (*list_installed(request.folder), own_interpreter())]
    for rule in request.rules:
        match = _ONE_VERSION.fullmatch(str(rule.versions))
        if match and any(map(_parse_version(match[1]).contains, installed)):
            return f"=={match[1]} means only {match[1]}.0. For any {match[1]} write =={match[1]}.*"
    install = f"uv python install '{request.as_specifiers()}'"
    if "downloads are set to" in problem or OFFLINE in problem:
        return f"Install one ({install}), or let uv download it: --set executor.pythonDownloads=true"
    return f"Install one ({install}). uv did not download it:\n{problem}"
