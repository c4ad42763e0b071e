"""The Python environment that a bundle asks for, built by uv.

    uv.lock (exactly that) | pyproject.toml | requirements.txt -> a key -> venvs_dir/KEY, built once, shared
    by all workers

Builders wait for one another under a file lock; an environment without its record was not finished and is
built again. Without uv.lock the versions are chosen once per key and kept beside it, so that rebuilding
changes nothing. The bundle itself is not installed: the runner puts its tree on sys.path.
"""

import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from modelops_dask import metrics
from modelops_dask.bundle import Bundle
from modelops_dask.bundle.reference import redact
from modelops_dask.errors import BadInput
from modelops_dask.scratch import own_folder, sweep
from modelops_dask.settings import Settings

logger = logging.getLogger("distributed.modelops.venv")  # below `distributed`, whose messages Dask shows

RECORD = ".modelops-record.json"  # written last: what was installed
LAST_LINES = 25  # of uv's own words in an error


@dataclass(frozen=True)
class Environment:
    """An interpreter; a key, equal for equal declarations; a digest of its Python version and packages."""

    python: Path
    key: str
    digest: str


class BuildFailed(BadInput):
    """uv could not build the environment of a bundle; `output` is the end of what it said, without
    passwords.
    """

    def __init__(self, command: str, output: str) -> None:
        super().__init__(command, output)
        self.command, self.output = command, output

    def __str__(self) -> str:
        return f"the bundle's environment cannot be built: {self.command}\n{self.output}"


def environment(bundle: Bundle, settings: Settings) -> Environment:
    """The environment for a bundle, built if it is not there. Raises BuildFailed, BadInput."""
    if settings.executor_environment == "image":
        return Environment(Path(sys.executable), "image", here())
    key = _key(bundle)
    folder = settings.venvs_dir / key
    with _disk(folder):
        settings.venvs_dir.mkdir(parents=True, exist_ok=True)
        sweep(_private(settings))
        with FileLock(f"{folder}.lock"):
            problem = _problem(folder, settings.validate_deps)
            metrics.count("cache_lookups", "environment", "miss" if problem else "hit")
            if problem:
                logger.info("environment %s: %s; building", key, problem)
                _clear(folder, settings)
                _build(bundle, folder, settings.venvs_dir / f"{key}.txt")
    return Environment(folder / "bin" / "python", key, _digest(_installed(folder)))


def here() -> str:
    """The digest of this process's own environment."""
    return _digest({path.stem for place in sys.path for path in Path(place).glob("*.dist-info")})


@contextmanager
def fresh(bundle: Bundle, settings: Settings) -> Iterator[Environment]:
    """An environment that nobody else uses, deleted at the end, or by a later call if this process is
    killed.
    """
    key = _key(bundle)
    with ExitStack() as stack:
        with _disk(settings.venvs_dir):
            folder = stack.enter_context(own_folder(_private(settings))) / "venv"
            _build(bundle, folder, settings.venvs_dir / f"{key}.txt")
        yield Environment(folder / "bin" / "python", key, _digest(_installed(folder)))


def _private(settings: Settings) -> Path:
    """Where the environments of single runners are, and what is being removed."""
    return settings.venvs_dir / "fresh"


def _clear(folder: Path, settings: Settings) -> None:
    """Remove an environment, renamed first: what still runs in it keeps what it has loaded, and a half of it
    is never seen.
    """
    if folder.exists():
        with own_folder(_private(settings)) as own:
            folder.rename(own / "old")


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    """An error of the disk as BuildFailed."""
    try:
        yield
    except OSError as error:
        raise BuildFailed(f"writing {error.filename or place}", error.strerror or str(error)) from None


def _key(bundle: Bundle) -> str:
    """Hash of what the bundle declares, with the Python version and platform that it is built for."""
    lock, requirements = bundle.path / "uv.lock", bundle.path / "requirements.txt"
    project = _project(bundle)
    if lock.is_file():
        text = lock.read_bytes()
        local = re.search(rb'(editable|directory|path) = "(?!\.")', text)
    else:
        uv = project.get("tool", {}).get("uv", {})
        names = ("dependencies", "requires-python", "dynamic")
        declared = {name: project.get("project", {}).get(name) for name in names} | {"uv": uv}
        text = json.dumps(declared, sort_keys=True, default=str).encode()
        if not project and requirements.is_file():
            text = requirements.read_bytes()
        local = uv.get("sources")
    if local:  # packages inside the bundle: their contents count too
        text += bundle.digest.encode()
    return f"{hashlib.sha256(text).hexdigest()[:16]}-{_platform()}"


def _platform() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{sys.implementation.name[0]}p{version}-{sysconfig.get_platform()}".replace("/", "_")


def _project(bundle: Bundle) -> dict:
    path = bundle.path / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None


def _problem(folder: Path, validate: bool) -> str:
    """Why an environment cannot be used as it is; "" when it can."""
    if not folder.exists():
        return "not there yet"
    try:
        recorded = json.loads((folder / RECORD).read_text("utf-8"))["installed"]
    except (OSError, ValueError, KeyError):
        return "not finished"
    if not (folder / "bin" / "python").exists():
        return "its interpreter is gone"
    if validate and (changed := sorted(set(recorded) ^ set(_installed(folder)))):
        return f"not as it was built ({', '.join(changed[:5])})"
    return ""


def _installed(folder: Path) -> list[str]:
    """NAME-VERSION of every installed package."""
    return sorted(path.stem for path in folder.glob("lib/python*/site-packages/*.dist-info"))


def _digest(installed: Iterable[str]) -> str:
    return hashlib.sha256("\n".join([_platform(), *sorted(installed)]).encode()).hexdigest()[:16]


def _build(bundle: Bundle, folder: Path, chosen: Path) -> None:
    """Build in place, the record last. `chosen` keeps the versions picked for a bundle without uv.lock."""
    started = time.monotonic()
    try:
        if (bundle.path / "uv.lock").is_file():
            _uv(
                *(
                    "sync",
                    "--frozen",
                    "--no-install-project",
                    "--no-dev",
                    "--no-editable",
                    "--python",
                    sys.executable,
                ),
                bundle=bundle,
                UV_PROJECT_ENVIRONMENT=str(folder),
            )
        else:
            _check_python(bundle)
            _uv("venv", "--no-project", "--python", sys.executable, str(folder), bundle=bundle)
            if source := _source(bundle):
                with FileLock(f"{chosen}.lock"):  # private environments are built side by side
                    if not chosen.exists():
                        new = f"{chosen}.new"
                        _uv("pip", "compile", "-q", "--python", str(folder), source, "-o", new, bundle=bundle)
                        Path(new).replace(chosen)
                _uv("pip", "install", "--python", str(folder), "-r", str(chosen), bundle=bundle)
        record = {"installed": _installed(folder), "seconds": round(time.monotonic() - started, 3)}
        (folder / RECORD).write_text(json.dumps(record), "utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    metrics.observe("environment_build_seconds", [record["seconds"]])
    logger.info(
        "environment %s: %d packages in %.1f s", folder.name, len(record["installed"]), record["seconds"]
    )


def _check_python(bundle: Bundle) -> None:
    """Refuse a bundle that excludes this Python: without a lock, uv would install for it all the same."""
    required = _project(bundle).get("project", {}).get("requires-python", "")
    try:
        if platform.python_version() in SpecifierSet(required):
            return
    except InvalidSpecifier as error:
        raise BadInput(f"{bundle.path / 'pyproject.toml'}: requires-python: {error}") from None
    raise BadInput(f"the bundle requires Python {required}; this worker has {platform.python_version()}")


def _source(bundle: Bundle) -> str:
    """The file of the bundle that uv reads dependencies from; "" when it has none, and no index is asked."""
    project = _project(bundle).get("project", {})
    if project.get("dependencies") or "dependencies" in project.get("dynamic", ()):
        return "pyproject.toml"
    return "requirements.txt" if not project and (bundle.path / "requirements.txt").is_file() else ""


def _uv(*arguments: str, bundle: Bundle, **variables: str) -> None:
    """Run uv; where it fails, once more with what its cache has, for the index may be out of reach."""
    done = _run(arguments, bundle, variables)
    if not done.returncode:
        return
    if not _run(arguments, bundle, variables | {"UV_OFFLINE": "1"}).returncode:
        logger.warning("uv %s: only uv's cache could be used", arguments[0])
        return
    lines = redact(done.stderr).strip().splitlines()
    raise BuildFailed(f"uv {' '.join(arguments)}", "\n".join(lines[-LAST_LINES:]))


def _run(
    arguments: tuple[str, ...], bundle: Bundle, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    from uv import find_uv_bin

    inherited = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    if sys.platform == "linux":  # elsewhere uv does not link: what is changed in one would be so in all
        inherited.setdefault("UV_LINK_MODE", "copy")
    return subprocess.run(
        [find_uv_bin(), *arguments],
        cwd=bundle.path,
        env=inherited | {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
