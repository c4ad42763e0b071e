"""The packages of a study: chosen once for each kind of worker, stored with it, installed by all.

    a worker, the bundle's Python -> its kind (cp311-linux_x86_64) -> environments/KIND.txt of the store
                 -> none yet: uv chooses, and the list is stored unless another worker was first
                 -> the bundle with that list, from which venv.py builds

A list has the hashes of its packages; a package from a repository has its commit, and one by a path is part
of the bundle, whose digest the study has. A bundle with uv.lock has its list in that file, and needs none
here. Resolving runs the bundle's build backend, so a worker does it, never the driver.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import replace

from modelops_dask.bundle import Bundle
from modelops_dask.environments import declaration, elsewhere, interpreters, lockfile, venv
from modelops_dask.environments.interpreters import Interpreter, NoPython
from modelops_dask.errors import BadInput
from modelops_dask.settings import PYTHON_VERSION, Settings
from modelops_dask.store.files import Store
from modelops_dask.store.identity import read_study

logger = logging.getLogger("distributed.modelops.packages")  # below `distributed`, whose messages Dask shows

FOLDER = "environments"
PYTHON = f"{FOLDER}/python"  # in the store: the version of the study's Python, if it is not the workers' own


def list_kinds(store: Store) -> list[str]:
    """The kinds of workers whose lists a store has."""
    return [name.removesuffix(".txt") for name in store.list(FOLDER) if name.endswith(".txt")]


def pin(store: Store, bundle: Bundle, settings: Settings) -> Bundle:
    """On a worker: return the bundle with the study's Python and packages, choosing them if necessary.

    Raises:
        NoStudy: The worker cannot reach the store.
        NoPython: No suitable Python is available.
        StaleLock: The lock file is outdated, unless the store is of mops-helm 0.1, which did not check.
        MopsError: BuildFailed, BadInput or StoreFailed.
    """
    try:
        check(bundle, settings)
    except (lockfile.StaleLock, NoPython):
        if not read_study(store).upgraded:
            raise
    if not settings.builds_environment:
        return bundle
    bundle, python = _choose_python(store, bundle, settings)
    if declaration.read(bundle).source in ("", declaration.LOCK):
        return bundle
    name = f"{FOLDER}/{python.kind}.txt"
    try:
        text = store.read(name)
    except FileNotFoundError:
        read_study(store)  # a worker that cannot reach the store must not create one
        package_list = venv.resolve(bundle, settings) or ""
        store.create(name, _add_title(package_list, python.kind).encode())
        text = store.read(name)  # it may be another worker's
        if others := sorted({*list_kinds(store)} - {python.kind}):
            logger.warning(
                "%s: packages chosen for it; the study also has %s", python.kind, ", ".join(others)
            )
    return replace(bundle, packages=text.decode())


def _choose_python(store: Store, bundle: Bundle, settings: Settings) -> tuple[Bundle, Interpreter]:
    """The bundle with the study's Python; the first worker that does not use its own stores the version.
    Raises NoPython, BadInput.
    """
    bundle = _read_python(store, bundle)
    python = interpreters.find_python(bundle, settings)
    if not bundle.python and python != interpreters.own_interpreter():
        read_study(store)
        store.create(PYTHON, python.minor_version.encode())
        bundle = _read_python(store, bundle)
        python = interpreters.find_python(bundle, settings)
    return bundle, python


def _read_python(store: Store, bundle: Bundle) -> Bundle:
    try:
        version = store.read(PYTHON).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return bundle
    return replace(bundle, python=version) if PYTHON_VERSION.fullmatch(version) else bundle


def read_pinned(store: Store, bundle: Bundle, settings: Settings) -> Bundle:
    """The bundle with the study's Python and packages, if the store has them for this kind of machine.

    Nothing is chosen, and the store is not written. Raises NoPython, BadInput.
    """
    if not settings.builds_environment:
        return bundle
    bundle = _read_python(store, bundle)
    if not bundle.python and (version := _find_listed_version(store)):
        bundle = replace(bundle, python=version)
    if declaration.read(bundle).source in ("", declaration.LOCK):
        return bundle
    python = interpreters.find_python(bundle, settings)
    try:
        return replace(bundle, packages=store.read(f"{FOLDER}/{python.kind}.txt").decode())
    except FileNotFoundError:
        return bundle


def _find_listed_version(store: Store) -> str:
    """The version of a study's workers, if this process has another one; else ""."""
    own = interpreters.own_interpreter()
    platform = own.kind.partition("-")[2]
    kinds = [kind for kind in list_kinds(store) if kind.partition("-")[2] == platform]
    if len(kinds) != 1 or own.kind in kinds or not (match := re.fullmatch(r"cp3(\d+)-.*", kinds[0])):
        return ""
    return f"3.{match[1]}"


def check(bundle: Bundle, settings: Settings) -> None:
    """Refuse a bundle with an outdated uv.lock, or with a Python that is not available.

    Raises StaleLock, NoPython, BadInput.
    """
    if settings.executor_type == "none":
        return
    interpreters.check_own(interpreters.check_request(bundle, settings), settings)
    if settings.builds_environment:
        lockfile.check(bundle)


def hint(bundle: Bundle, reasons: Iterable[str]) -> str:
    """A hint if these reasons (Outcome.reason) indicate missing packages, else ""."""
    if "ModuleNotFoundError" not in reasons:
        return ""
    try:
        lockfile.check(bundle)
        return elsewhere.hint_on_missing_module(bundle)
    except lockfile.StaleLock as error:
        return str(error)
    except BadInput:  # reported when the environment was to be built
        return ""


def notes(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """Notes about a bundle's packages to show before anything runs. Raises BadInput."""
    if not settings.builds_environment:
        return ()
    lines = [elsewhere.hint(bundle), _note_python(bundle, settings)]
    try:
        lockfile.check(bundle)
    except lockfile.StaleLock as error:
        lines.append(f"{error.reason} The study continues with the packages of uv.lock, as it started.")
    return tuple(filter(None, lines))


def _note_python(bundle: Bundle, settings: Settings) -> str:
    """A line if the bundle's .python-version names another Python than models run with; else ""."""
    path = bundle.path / ".python-version"
    version = path.read_text("utf-8", "replace").strip() if path.is_file() else ""
    if not (version and PYTHON_VERSION.fullmatch(version)):
        return ""
    python = interpreters.find_python(bundle, settings)
    if f"{python.version}.".startswith(f"{version}."):
        return ""
    return (
        f"The bundle's .python-version names {version}, but models run with Python {python.version}, "
        "because only "
        f"requires-python in pyproject.toml counts. To run with {version}: --set executor.python={version}"
    )


def _add_title(text: str, kind: str) -> str:
    return f"# Chosen by uv for {kind}; every worker of this kind installs exactly these packages.\n{text}"
