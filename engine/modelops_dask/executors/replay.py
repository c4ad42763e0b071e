"""What a zygote learns from its first task: modules to import and numba functions to compile.

    in the child, after its task: report(modules loaded before) -> in the zygote: replay(modules, compiled)

Only names and types are sent, in JSON, nothing that the task computed or changed; numba finds the code that
the child compiled in its disk cache. numba's types can only be pickled, so they are read with numba's own
classes alone. Modules of the bundle are left out: importing one may change another, draw from a generator or
read what the task wrote, and another task may not import it. This module uses only the standard library,
because zygote.py loads it by path.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import importlib
import io
import os
import pickle
import sys
from functools import reduce
from pathlib import Path
from typing import Any

Compiled = tuple[str, str, str]  # module, qualified name, argument types: pickled, in base64


def report(loaded: set[str], bundle_folder: str) -> tuple[list[str], list[Compiled]]:
    """(modules not in `loaded`, in their order; compiled functions), with JSON types.

    bundle_folder is the folder of the bundle, whose modules are left out.
    """
    modules = [
        name
        for name, module in list(sys.modules.items())
        if name not in loaded
        and (spec := getattr(module, "__spec__", None)) is not None
        and not _is_below(bundle_folder, spec)
    ]
    kind = _dispatcher()
    if kind is None:
        return modules, []
    gc.unfreeze()  # otherwise the collector would not list the zygote's objects
    compiled = []
    for dispatcher in gc.get_objects():
        # A parallel function would start numba's threads in the zygote.
        if issubclass(type(dispatcher), kind) and not dispatcher.targetoptions.get("parallel"):
            function = dispatcher.py_func
            for types in dispatcher.signatures:
                with contextlib.suppress(Exception):
                    text = base64.b64encode(pickle.dumps(types)).decode()
                    compiled.append((function.__module__, function.__qualname__, text))
    return modules, compiled


def _is_below(folder: str, spec: Any) -> bool:
    """Whether a module comes from a folder, or from an unknown location."""
    if getattr(spec, "has_location", False):
        places = [spec.origin]
    else:
        places = list(getattr(spec, "submodule_search_locations", None) or ())
    for place in places:
        if not isinstance(place, str) or not place.startswith(os.sep):  # the task may have changed folders
            return True
        if Path(folder) in Path(place).parents or Path(folder).resolve() in Path(place).resolve().parents:
            return True
    return False


def read(report: object) -> tuple[list[str], list[Compiled]] | None:
    """Parse a report; None if it is invalid."""
    if not isinstance(report, list) or len(report) != 2 or not all(isinstance(part, list) for part in report):
        return None
    modules, compiled = report
    return [name for name in modules if isinstance(name, str)], [
        tuple(entry)
        for entry in compiled
        if isinstance(entry, list) and len(entry) == 3 and all(isinstance(text, str) for text in entry)
    ]


def replay(modules: list[str], compiled: list[Compiled]) -> None:
    """Import and compile as much of a report as possible."""
    for name in modules:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    kind = _dispatcher()
    for module, qualified_name, types in compiled:
        with contextlib.suppress(Exception):
            # Functions of modules that are not imported here cannot be compiled.
            function = reduce(getattr, qualified_name.split("."), sys.modules[module])
            if isinstance(function, kind):
                function.compile(Types(io.BytesIO(base64.b64decode(types))).load())


class Types(pickle.Unpickler):
    """Reads argument types of numba, and refuses anything else that a pickle may name."""

    TYPES = ("numba.core.types.", "numba.np.types.")
    OTHERS = frozenset((("copyreg", "_reconstructor"), ("builtins", "object")))

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in self.OTHERS or f"{module}.".startswith(self.TYPES):
            numba_type = super().find_class(module, name)
            if "." not in name and getattr(numba_type, "__module__", module) in (
                module,
                "copyreg",
                "builtins",
            ):
                return numba_type
        raise pickle.UnpicklingError(f"{module}.{name} is not a type of numba")


def _dispatcher() -> Any:
    """numba's class of compiled functions; None if numba is not loaded."""
    return getattr(sys.modules.get("numba.core.dispatcher"), "Dispatcher", None)
