"""Check the program of a study with a command before anything runs.

Spec -> the folder that is its bundle;   Bundle with a program -> BadInput with advice, or nothing
"""

import json
import shutil
from pathlib import Path

from modelops_dask import bundle as bundles
from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.executors.program_start import find_problem
from modelops_dask.placeholders import list_names
from modelops_dask.plan.spec import Spec


def find_bundle_of(spec: Spec) -> str:
    """The bundle of a study file that names none.

    For a study with a command it is the file's own folder, for others the nearest folder above it that is a
    bundle. Raises BadInput.
    """
    folder = spec.path.resolve().parent
    if not spec.program:
        return str(bundles.find(folder, spec.model))
    if folder in (Path.home().resolve(), Path(folder.anchor)):
        raise BadInput(
            f"{folder} would be the bundle, with all its contents; move the program and the study file into "
            "their own folder, or name the bundle (bundle: in the study file, or --bundle)"
        )
    return str(folder)


def check_program(bundle: Bundle) -> None:
    """Refuse a bundle whose program is missing, or cannot be executed on any machine.

    A program outside the bundle, or whose name has placeholders, is searched when a task runs: it may be
    installed only on the workers. Raises BadInput.
    """
    if not bundle.program:
        return
    name = json.loads(bundle.program)["command"][0]
    if list_names(name) or Path(name).is_absolute():
        return
    if "/" in name:
        if problem := find_problem(str(bundle.path / name), name):
            raise BadInput(f"command: {problem}")
    elif (bundle.path / name).is_file() and not shutil.which(name):
        raise BadInput(f"command: {name} is searched on the PATH, not in the bundle; write ./{name}")
