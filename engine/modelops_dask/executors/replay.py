"""What a zygote learns from its first task: modules to import and numba functions to compile.

    in the child, after its task: report(modules loaded before) -> in the zygote: replay(modules, compiled)

Nothing that the task computed or changed travels, only names and types; numba finds the code that the child
compiled in its disk cache. Standard library only: zygote.py loads it by path.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import pickle
import sys
from functools import reduce
from typing import Any


def report(loaded: set[str]) -> tuple[list[str], list[tuple[str, str, bytes]]]:
    """(modules not among `loaded`, in their order; (module, qualified name, pickled argument types)…)."""
    modules = [
        name
        for name, module in list(sys.modules.items())
        if name not in loaded and getattr(module, "__spec__", None) is not None
    ]
    kind = _dispatcher()
    if kind is None:
        return modules, []
    gc.unfreeze()  # or the collector would not list what the zygote had
    compiled = []
    for found in gc.get_objects():
        # A parallel function would start numba's threads in the zygote.
        if issubclass(type(found), kind) and not found.targetoptions.get("parallel"):
            function = found.py_func
            for types in found.signatures:
                with contextlib.suppress(Exception):
                    compiled.append((function.__module__, function.__qualname__, pickle.dumps(types)))
    return modules, compiled


def replay(modules: list[str], compiled: list[tuple[str, str, bytes]]) -> None:
    """Import and compile as much of a report as can be."""
    for name in modules:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    kind = _dispatcher()
    for module, qualified_name, types in compiled:
        with contextlib.suppress(Exception):
            function = reduce(getattr, qualified_name.split("."), sys.modules[module])
            if isinstance(function, kind):
                function.compile(pickle.loads(types))


def _dispatcher() -> Any:
    """numba's class of compiled functions; None where numba is not loaded."""
    return getattr(sys.modules.get("numba.core.dispatcher"), "Dispatcher", None)
