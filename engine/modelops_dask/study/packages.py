"""The packages of a study: chosen once for each kind of worker, kept in its store, installed by all.

    a worker -> its kind (cp311-linux_x86_64) -> environments/KIND.txt of the store
             -> none yet: uv chooses, and the list is put there unless another worker was first
             -> the bundle with that list, from which venv.py builds

A list has the hashes of its packages; a package from a repository has its commit, and one by a path is part
of the bundle, whose digest the study has. A bundle with uv.lock has its list in that file, and needs none
here. Resolving runs the bundle's build backend, so a worker does it, never the driver.
"""

import logging
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import replace

from modelops_dask.bundle import Bundle
from modelops_dask.environments import declaration, elsewhere, lockfile, venv
from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.store.identity import read_study

logger = logging.getLogger("distributed.modelops.packages")  # below `distributed`, whose messages Dask shows

FOLDER = "environments"


def worker_kind() -> str:
    """The Python version and platform for which a list holds: cp311-linux_x86_64."""
    version = f"{sys.implementation.name[0]}p{sys.version_info[0]}{sys.version_info[1]}"
    return f"{version}-{sysconfig.get_platform().replace('-', '_')}".replace("/", "_")


def list_kinds(store: Store) -> list[str]:
    """The kinds of workers whose lists a store has."""
    return [name.removesuffix(".txt") for name in store.list(FOLDER) if name.endswith(".txt")]


def pin(store: Store, bundle: Bundle, settings: Settings) -> Bundle:
    """On a worker: return the bundle with the packages that its study installs, chosen now if none are.

    Raises NoStudy where the worker does not see the store, StaleLock unless the store is of mops-helm 0.1,
    which did not look, BuildFailed, BadInput, StoreFailed.
    """
    if not builds_environment(settings):
        return bundle
    try:
        lockfile.check(bundle)
    except lockfile.StaleLock:
        if not read_study(store).upgraded:
            raise
    if declaration.read(bundle).source in ("", declaration.LOCK):
        return bundle
    name = f"{FOLDER}/{worker_kind()}.txt"
    try:
        text = store.read(name)
    except FileNotFoundError:
        read_study(store)  # a worker that sees no store must not begin one
        store.create(name, _add_title(venv.resolve(bundle, settings) or "").encode())
        text = store.read(name)  # it may be another worker's
        if others := sorted({*list_kinds(store)} - {worker_kind()}):
            logger.warning(
                "%s: packages chosen for it; the study also has %s", worker_kind(), ", ".join(others)
            )
    return replace(bundle, packages=text.decode())


def read_pinned(store: Store, bundle: Bundle) -> Bundle:
    """The bundle with the packages that a study installed, where its store has them for this kind of machine;
    nothing is chosen, and the store is not written.
    """
    try:
        return replace(bundle, packages=store.read(f"{FOLDER}/{worker_kind()}.txt").decode())
    except FileNotFoundError:
        return bundle


def check(bundle: Bundle, settings: Settings) -> None:
    """Raises StaleLock when a bundle's environment would be built from a uv.lock that does not fit it."""
    if builds_environment(settings):
        lockfile.check(bundle)


def hint(bundle: Bundle, reasons: Iterable[str]) -> str:
    """A hint when these reasons (Outcome.reason) point to missing packages, else ""."""
    if "ModuleNotFoundError" not in reasons:
        return ""
    try:
        lockfile.check(bundle)
        return elsewhere.hint_on_missing_module(bundle)
    except lockfile.StaleLock as error:
        return str(error)
    except BadInput:  # told when the environment was to be built
        return ""


def notes(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """Notes about a bundle's packages to show before anything runs. Raises BadInput."""
    if not builds_environment(settings):
        return ()
    lines = [elsewhere.hint(bundle)]
    try:
        lockfile.check(bundle)
    except lockfile.StaleLock as error:
        lines.append(f"{error.reason} The study goes on with the packages of uv.lock, as it was begun.")
    return tuple(filter(None, lines))


def builds_environment(settings: Settings) -> bool:
    """Whether models run in an environment that is built for their bundle."""
    return settings.executor_type != "direct" and settings.executor_environment == "bundle"


def _add_title(text: str) -> str:
    kind = worker_kind()
    return f"# Chosen by uv for {kind}; every worker of this kind installs exactly these packages.\n{text}"
