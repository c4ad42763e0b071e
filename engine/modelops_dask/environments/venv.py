"""The Python environment that a bundle asks for, built by uv.

    uv.lock (exactly that) | pyproject.toml | requirements.txt -> a list of packages
      -> a key of all that decides them -> venvs_dir/KEY, built once, shared by all workers

Builders wait for one another under a file lock; an environment without its record was not finished and is
built again. Without uv.lock the packages are chosen once, with their hashes: the list of a study comes with
its bundle (Bundle.packages), any other is kept in venvs_dir, so that rebuilding changes nothing. The bundle
itself is not installed: the runner puts its tree on sys.path.
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
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from modelops_dask import metrics
from modelops_dask.bundle import Bundle
from modelops_dask.bundle.reference import redact
from modelops_dask.environments.declaration import LOCK, Declaration, read, read_project
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
        return Environment(Path(sys.executable), "image", digest_of_process())
    recipe = _recipe(bundle, settings)
    folder = settings.venvs_dir / recipe.key
    with _disk(folder):
        settings.venvs_dir.mkdir(parents=True, exist_ok=True)
        sweep(_private(settings))
        with FileLock(f"{folder}.lock"):
            problem = _problem(folder, settings.validate_deps)
            metrics.count("cache_lookups", "environment", "miss" if problem else "hit")
            if problem:
                logger.info("environment %s: %s; building", recipe.key, problem)
                _clear(folder, settings)
                _build(recipe, folder)
    return Environment(folder / "bin" / "python", recipe.key, _digest(_installed(folder)))


def resolve(bundle: Bundle, settings: Settings) -> str | None:
    """The packages that a bundle needs here, in the form of a requirements file, each with its hashes.

    None where nothing is chosen: for a bundle that has uv.lock, or declares no packages. What was chosen
    before on this machine for the same declaration is chosen again. Runs the build backend of a bundle whose
    dependencies are dynamic. Raises BuildFailed, BadInput.
    """
    declaration = read(bundle)
    if declaration.source in ("", LOCK):
        return None
    packages_file = settings.venvs_dir / f"{_key(declaration)}.txt"
    with _disk(packages_file):
        settings.venvs_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{packages_file}.lock"):
            if not packages_file.exists():
                _check_python(bundle)
                _check_paths(declaration)
                new = packages_file.with_suffix(".new")
                new.write_text(_choose(bundle, declaration), "utf-8")
                new.replace(packages_file)
            return packages_file.read_text("utf-8")


def digest_of_process() -> str:
    """The digest of this process's own environment."""
    return _digest({path.stem for place in sys.path for path in Path(place).glob("*.dist-info")})


@contextmanager
def fresh_environment(bundle: Bundle, settings: Settings) -> Iterator[Environment]:
    """An environment that nobody else uses, deleted at the end, or by a later call if this process is
    killed.
    """
    recipe = _recipe(bundle, settings)
    with ExitStack() as stack:
        with _disk(settings.venvs_dir):
            folder = stack.enter_context(own_folder(_private(settings))) / "venv"
            _build(recipe, folder)
        yield Environment(folder / "bin" / "python", recipe.key, _digest(_installed(folder)))


def _private(settings: Settings) -> Path:
    """Where the environments of single runners are, and what is being removed."""
    return settings.venvs_dir / "fresh"


def _clear(folder: Path, settings: Settings) -> None:
    """Remove an environment, renamed first: what still runs in it keeps what it has loaded, and a half of it
    is never seen.
    """
    if folder.exists():
        with own_folder(_private(settings)) as scratch:
            folder.rename(scratch / "old")


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    """An error of the disk as BuildFailed."""
    try:
        yield
    except OSError as error:
        raise BuildFailed(f"writing {error.filename or place}", error.strerror or str(error)) from None


@dataclass(frozen=True)
class _Recipe:
    """What an environment is built from. `packages` is the list to install, "" for none; a bundle with
    uv.lock has it there. `key` names all of it, with the Python version and the platform.
    """

    bundle: Bundle
    declaration: Declaration
    packages: str
    key: str


def _recipe(bundle: Bundle, settings: Settings) -> _Recipe:
    declaration = read(bundle)
    packages = bundle.packages if bundle.packages is not None else resolve(bundle, settings)
    if declaration.source in ("", LOCK) or not packages:
        return _Recipe(bundle, declaration, "", _key(declaration))
    packages_digest = hashlib.sha256(packages.encode()).hexdigest()[:8]
    return _Recipe(bundle, declaration, packages, f"{_key(declaration)}-{packages_digest}")


def _key(declaration: Declaration) -> str:
    """A name for what a bundle declares, with the Python version and platform that it is built for."""
    return f"{declaration.digest[:16]}-{_platform()}"


def _platform() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{sys.implementation.name[0]}p{version}-{sysconfig.get_platform()}".replace("/", "_")


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


def _build(recipe: _Recipe, folder: Path) -> None:
    """Build in place, the record last."""
    started, bundle = time.monotonic(), recipe.bundle
    try:
        if recipe.declaration.source == LOCK:
            _uv(
                "sync",
                "--frozen",
                "--no-install-project",
                "--no-dev",
                "--no-editable",
                "--python",
                sys.executable,
                bundle=bundle,
                UV_PROJECT_ENVIRONMENT=str(folder),
            )
        else:
            _check_python(bundle)
            _uv("venv", "--no-project", "--python", sys.executable, str(folder), bundle=bundle)
            if recipe.packages:
                _uv("pip", "sync", "--python", str(folder), "-", bundle=bundle, stdin=_to_install(recipe))
        installed, seconds = _installed(folder), round(time.monotonic() - started, 3)
        (folder / RECORD).write_text(json.dumps({"installed": installed, "seconds": seconds}), "utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    metrics.observe("environment_build_seconds", [seconds])
    logger.info("environment %s: %d packages in %.1f s", folder.name, len(installed), seconds)


def _choose(bundle: Bundle, declaration: Declaration) -> str:
    """The packages as uv chooses them for this Python, without paths of this machine and passwords."""
    form = ("--generate-hashes", "--no-header", "--no-annotate", "--python", sys.executable)
    text = _uv("pip", "compile", "-q", *form, declaration.source, bundle=bundle)
    text = re.sub("^-e ", "", text, flags=re.MULTILINE)  # a copy of it, as with uv.lock
    text = text.replace(str(bundle.path), "${PROJECT_ROOT}")
    for host, user in declaration.passwords.items():
        text = text.replace(f"://{user}@{host}", f"://{host}")
    return text


def _to_install(recipe: _Recipe) -> str:
    """What uv is given: the list, where to find its packages, and the passwords that it does not hold."""
    text = recipe.packages
    for host, user in recipe.declaration.passwords.items():
        text = text.replace(f"://{host}", f"://{user}@{host}")
    return "\n".join([*recipe.declaration.options, text])


def _check_python(bundle: Bundle) -> None:
    """Refuse a bundle that excludes this Python: without a lock, uv would install for it all the same."""
    required = read_project(bundle.path).get("project", {}).get("requires-python", "")
    try:
        if platform.python_version() in SpecifierSet(required):
            return
    except InvalidSpecifier as error:
        raise BadInput(f"pyproject.toml of the bundle: requires-python: {error}") from None
    raise BadInput(f"the bundle requires Python {required}; this worker has {platform.python_version()}")


def _check_paths(declaration: Declaration) -> None:
    """Refuse paths of the machine where a list was made; uv would say no more than that nothing is there."""
    if lost := declaration.missing:
        rest = f", and {len(lost) - 1} more like it" if len(lost) > 1 else ""
        raise BadInput(
            f"{lost[0]}{rest}: nothing is at that path on the workers. pip freeze writes such paths in a "
            "conda environment; list versions instead: pip list --format=freeze > requirements.txt"
        )


def _uv(*arguments: str, bundle: Bundle, stdin: str = "", **variables: str) -> str:
    """Run uv, and return what it printed; where it fails, once more with what its cache has, for the index
    may be out of reach.
    """
    process = _run(arguments, bundle, stdin, variables)
    if not process.returncode:
        return process.stdout
    offline = _run(arguments, bundle, stdin, variables | {"UV_OFFLINE": "1"})
    if not offline.returncode:
        logger.warning("uv %s: only uv's cache could be used", arguments[0])
        return offline.stdout
    lines = redact(process.stderr).strip().splitlines()
    raise BuildFailed(f"uv {' '.join(arguments)}", "\n".join(lines[-LAST_LINES:]))


def _run(
    arguments: tuple[str, ...], bundle: Bundle, stdin: str, variables: dict[str, str]
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
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
