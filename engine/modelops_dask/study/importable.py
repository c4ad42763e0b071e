"""The import path of a Python function, in a bundle from which runners can import it.

function -> package.module.function, and the folder of the package or module

Runners are separate processes: they cannot call functions that exist only in this one, such as a notebook's.
"""

import sys
import sysconfig
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput


def find_import_path(function: Callable[..., Any]) -> str:
    """The import path of a function, package.module.function.

    Raises:
        BadInput: Another process cannot import it; with advice.
    """
    module_name = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", "")
    problem = _find_problem(module_name, name)
    if problem:
        short = name.rpartition(".")[2].strip("<>")
        example = short if short and short != "lambda" else "simulate"
        raise BadInput(
            f"{short or function!r} {problem}, so it cannot be imported. Tasks run in separate "
            "processes, which import the function: write it with def, and everything it needs, into "
            "model.py (in a "
            "notebook: a cell that begins with %%writefile model.py). Then:\n"
            f"  from model import {example}\n  run(study, model={example})"
        )
    return f"{module_name}.{name}"


def check_script() -> None:
    """Refuse a script that starts workers when it is imported: each worker imports it, and would do so too.

    Raises:
        BadInput: The running script has no `if __name__ == "__main__":`, and this is not called from a file
            that it imports.
    """
    script = sys.modules.get("__main__")
    file = getattr(script, "__file__", None)
    if not file or Path(file).name in ("__main__.py", "ipython"):  # workers do not import these
        return
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        at_top = frame.f_code.co_name == "<module>" and frame.f_globals is vars(script)
        if at_top and frame.f_code.co_filename == file and "__name__" not in _read_source(file):
            raise BadInput(
                f"{file}:{frame.f_lineno}: worker processes import this script, so it must not start a study "
                'when it is imported. Put this line, and what follows it, below `if __name__ == "__main__":`.'
            )


def _read_source(file: str) -> str:
    try:
        return Path(file).read_text("utf-8", errors="replace")
    except OSError:
        return "__name__"


def _find_problem(module_name: str | None, name: str) -> str:
    """Why a function of this name in a module cannot be imported; "" if it can."""
    if not module_name or not name:
        return "has no name"
    if "<lambda>" in name:
        return "is a lambda function"
    if "<locals>" in name:
        return "is defined inside another function"
    if module_name in ("__main__", "__mp_main__"):
        return "is defined in this notebook, script or session"
    try:
        reduce(getattr, name.split("."), sys.modules[module_name])
    except (AttributeError, KeyError):
        return f"is not in {module_name}"
    return ""


def find_folder(function: Callable[..., Any]) -> Path | None:
    """The folder to use as the bundle: that of its top package or module, or the one that has it in src/.

    None for a function of an installed package, which is in no bundle.
    """
    module_name = function.__module__
    file = getattr(sys.modules[module_name], "__file__", None)
    if not file:
        return None
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & {*path.parts} or path.is_relative_to(
        sysconfig.get_path("stdlib")
    ):
        return None
    folder = path.parents[len(module_name.split(".")) - (path.name != "__init__.py")]
    return folder.parent if folder.name == "src" else folder
