"""The Python environment that a bundle requires, built by uv.

    requires-python, executor.python -> interpreters.py -> a Python
    uv.lock (exactly that) | pyproject.toml | requirements.txt -> a list of packages
      -> a key of everything that determines them -> venvs_dir/KEY, built once, shared by all workers

Builders wait for each other with a file lock; an environment without its record is incomplete and is built
again. Without uv.lock the packages are chosen once, with their hashes: a study's list comes with its bundle
(Bundle.packages), any other list is stored in venvs_dir, so that a rebuild changes nothing. The bundle itself
is not installed: the runner adds its tree to sys.path. On Linux an environment is a copy of a template
(templates.py), so that the second one with the same packages is fast.
"""

import hashlib
import json
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from modelops_dask import metrics
from modelops_dask.bundle import Bundle
from modelops_dask.environments import templates
from modelops_dask.environments.declaration import LOCK, Declaration, read
from modelops_dask.environments.interpreters import Interpreter, find_python, own_interpreter
from modelops_dask.environments.uv import BuildFailed, run_uv, tell
from modelops_dask.errors import BadInput
from modelops_dask.scratch import own_folder, sweep
from modelops_dask.settings import Settings

logger = logging.getLogger("distributed.modelops.venv")  # below `distributed`, whose messages Dask shows

RECORD = ".modelops-record.json"  # written last: the installed packages


@dataclass(frozen=True)
class Environment:
    """An interpreter; a key that is equal for equal declarations; a digest of its Python version and
    packages.

    built describes the build; it is "" if the environment existed.
    """

    python: Path
    key: str
    digest: str
    built: str = field(default="", compare=False)


def environment(bundle: Bundle, settings: Settings) -> Environment:
    """Return a bundle's environment, built if necessary. Raises BuildFailed, NoPython, BadInput."""
    if settings.executor_environment == "image":
        return Environment(Path(sys.executable), "image", digest_of_process())
    recipe = _recipe(bundle, settings)
    folder, built = settings.venvs_dir / recipe.key, ""
    with _disk(folder):
        settings.venvs_dir.mkdir(parents=True, exist_ok=True)
        sweep(_private(settings))
        with FileLock(f"{folder}.lock"):
            problem = _problem(folder, settings.validate_deps)
            metrics.count("cache_lookups", "environment", "miss" if problem else "hit")
            if problem:
                logger.info("environment %s: %s; building", recipe.key, problem)
                _clear(folder, settings)
                built = _build(recipe, folder, settings)
    return Environment(
        folder / "bin" / "python", recipe.key, _digest(recipe.python, _installed(folder)), built
    )


def resolve(bundle: Bundle, settings: Settings) -> str | None:
    """The packages that a bundle needs on this platform, as a requirements file with hashes.

    None if there is nothing to choose: the bundle has uv.lock or declares no packages. An earlier choice of
    this machine for the same declaration is reused. Runs the build backend of a bundle with dynamic
    dependencies. Raises BuildFailed, BadInput.
    """
    declaration = read(bundle)
    if declaration.source in ("", LOCK):
        return None
    python = find_python(bundle, settings)
    packages_file = settings.venvs_dir / f"{_key(declaration, python)}.txt"
    with _disk(packages_file):
        settings.venvs_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{packages_file}.lock"):
            if not packages_file.exists():
                _check_paths(declaration)
                new = packages_file.with_suffix(".new")
                new.write_text(_choose(bundle, declaration, python), "utf-8")
                new.replace(packages_file)
            return packages_file.read_text("utf-8")


def digest_of_process() -> str:
    """The digest of this process's own environment."""
    installed = {path.stem for place in sys.path for path in Path(place).glob("*.dist-info")}
    return _digest(own_interpreter(), installed)


@contextmanager
def fresh_environment(bundle: Bundle, settings: Settings) -> Iterator[Environment]:
    """An environment used by one runner, deleted at the end, or by a later call if this process is killed."""
    recipe = _recipe(bundle, settings)
    with ExitStack() as stack:
        with _disk(settings.venvs_dir):
            folder = stack.enter_context(own_folder(_private(settings))) / "venv"
            built = _build(recipe, folder, settings)
        digest = _digest(recipe.python, _installed(folder))
        yield Environment(folder / "bin" / "python", recipe.key, digest, built)


def _private(settings: Settings) -> Path:
    """The folder of environments of single runners and of those being removed."""
    return settings.venvs_dir / "fresh"


def _clear(folder: Path, settings: Settings) -> None:
    """Remove an environment after renaming it.

    Processes that still run in it keep what they have loaded, and no process sees an incomplete one.
    """
    if folder.exists():
        with own_folder(_private(settings)) as scratch:
            folder.rename(scratch / "old")


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    """Turn an error of the disk into BuildFailed."""
    try:
        yield
    except OSError as error:
        raise BuildFailed(f"writing {error.filename or place}", error.strerror or str(error)) from None


@dataclass(frozen=True)
class _Recipe:
    """The inputs of a build. `packages` is the list to install, "" for none; a bundle with uv.lock has its
    list there. `key` identifies all of it, with the Python version and the platform.
    """

    python: Interpreter

    bundle: Bundle
    declaration: Declaration
    packages: str
    key: str


def _recipe(bundle: Bundle, settings: Settings) -> _Recipe:
    declaration, python = read(bundle), find_python(bundle, settings)
    packages = bundle.packages if bundle.packages is not None else resolve(bundle, settings)
    key = _key(declaration, python)
    if declaration.source in ("", LOCK) or not packages:
        return _Recipe(python, bundle, declaration, "", key)
    packages_digest = hashlib.sha256(packages.encode()).hexdigest()[:8]
    return _Recipe(python, bundle, declaration, packages, f"{key}-{packages_digest}")


def _key(declaration: Declaration, python: Interpreter) -> str:
    """A name for a bundle's declaration with the Python version and platform that it is built for."""
    return f"{declaration.digest[:16]}-{python.tag}"


def _problem(folder: Path, validate: bool) -> str:
    """Why an environment cannot be used unchanged; "" if it can."""
    if not folder.exists():
        return "does not exist yet"
    try:
        recorded = json.loads((folder / RECORD).read_text("utf-8"))["installed"]
    except (OSError, ValueError, KeyError):
        return "incomplete"
    if not (folder / "bin" / "python").exists():
        return "its interpreter is missing"
    if validate and (changed := sorted(set(recorded) ^ set(_installed(folder)))):
        return f"changed since it was built ({', '.join(changed[:5])})"
    return ""


def _installed(folder: Path) -> list[str]:
    """NAME-VERSION of every installed package."""
    return sorted(path.stem for path in folder.glob("lib/python*/site-packages/*.dist-info"))


def _digest(python: Interpreter, installed: Iterable[str]) -> str:
    return hashlib.sha256("\n".join([python.tag, *sorted(installed)]).encode()).hexdigest()[:16]


def _build(recipe: _Recipe, folder: Path, settings: Settings) -> str:
    """Build an environment in place and write the record last; return a description."""
    started = time.monotonic()
    try:
        if sys.platform == "linux":
            with _template(recipe, settings) as template:
                templates.copy(template, folder)
        else:  # uv itself clones files there
            _install(recipe, folder)
        installed, seconds = _installed(folder), round(time.monotonic() - started, 3)
        _write_record(folder, installed, seconds)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    metrics.observe("environment_build_seconds", [seconds])
    logger.info("environment %s: %d packages in %.1f s", folder.name, len(installed), seconds)
    return (
        f"Built the model's environment in {seconds:.1f} s: Python {recipe.python.version}, "
        f"{_count(len(installed))} ({recipe.key})"
    )


@contextmanager
def _template(recipe: _Recipe, settings: Settings) -> Iterator[Path]:
    """An environment with the packages of a recipe, in which nothing ever runs, to be copied."""
    folder = settings.venvs_dir / "templates" / _template_key(recipe)
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if _problem(folder, validate=True):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _install(recipe, folder, "--relocatable", UV_LINK_MODE="hardlink")
                _write_record(folder, _installed(folder), 0.0)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    yield folder


def _template_key(recipe: _Recipe) -> str:
    """A name for the installed packages: equal for bundles that declare the same packages differently."""
    if not recipe.packages or "${PROJECT_ROOT}" in recipe.packages or "file:" in recipe.packages:
        return recipe.key
    settings = "\n".join([recipe.declaration.settings_digest, *recipe.declaration.options, recipe.packages])
    return f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}-{recipe.python.tag}"


def _install(recipe: _Recipe, folder: Path, *venv_options: str, **variables: str) -> None:
    """Let uv create an environment and install its packages."""
    bundle, python = recipe.bundle, recipe.python.path
    run_uv("venv", "--no-project", *venv_options, "--python", python, str(folder), folder=bundle.path)
    if recipe.declaration.source == LOCK:
        tell("installing the packages of uv.lock")
        options = ("--frozen", "--no-install-project", "--no-dev", "--no-editable", "--python", python)
        run_uv("sync", *options, folder=bundle.path, UV_PROJECT_ENVIRONMENT=str(folder), **variables)
    elif recipe.packages:
        n_packages = len(re.findall(r"^[\w.-]+ ?[=@]", recipe.packages, re.MULTILINE))
        tell(f"installing {_count(n_packages)}")
        arguments = ("pip", "sync", "--python", str(folder), "-")
        run_uv(*arguments, folder=bundle.path, stdin=_to_install(recipe), **variables)


def _count(n_packages: int) -> str:
    return "1 package" if n_packages == 1 else f"{n_packages} packages"


def _write_record(folder: Path, installed: list[str], seconds: float) -> None:
    (folder / RECORD).write_text(json.dumps({"installed": installed, "seconds": seconds}), "utf-8")


def _choose(bundle: Bundle, declaration: Declaration, python: Interpreter) -> str:
    """The packages as uv chooses them for a Python, without local paths and passwords."""
    tell("choosing packages")
    form = ("--generate-hashes", "--no-header", "--no-annotate", "--python", python.path)
    text = run_uv("pip", "compile", "-q", *form, declaration.source, folder=bundle.path)
    text = re.sub("^-e ", "", text, flags=re.MULTILINE)  # a copy of it, as with uv.lock
    text = text.replace(str(bundle.path), "${PROJECT_ROOT}")
    for host, user in declaration.passwords.items():
        text = text.replace(f"://{user}@{host}", f"://{host}")
    return text


def _to_install(recipe: _Recipe) -> str:
    """The input of uv: the list, the sources of its packages, and the passwords that it does not contain."""
    text = recipe.packages
    for host, user in recipe.declaration.passwords.items():
        text = text.replace(f"://{host}", f"://{user}@{host}")
    return "\n".join([*recipe.declaration.options, text])


def _check_paths(declaration: Declaration) -> None:
    """Refuse paths of the machine on which a list was made; uv would only report that they do not exist."""
    if lost := declaration.missing:
        rest = f", and {len(lost) - 1} more like it" if len(lost) > 1 else ""
        raise BadInput(
            f"{lost[0]}{rest}: this path does not exist on the workers. pip freeze writes such paths in a "
            "conda environment; list versions instead: pip list --format=freeze > requirements.txt"
        )
