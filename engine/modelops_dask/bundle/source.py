"""Functions in a bundle's sources, read without importing them, because an import can take 20 seconds.

    package.module.function -> the module's file in the bundle -> Definition, Absent or None (not known)

Only certain facts are reported. A name that is bound twice, by a decorator that may change it, or in an
unreadable way is "not known" here; the runner, which imports it, reports the rest.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

# Decorators, by the last part of their name, that do not change a function's parameters.
TRANSPARENT = frozenset(("cache", "lru_cache", "njit", "jit", "staticmethod", "override", "deprecated"))
COMMAND_PACKAGES = ("click", "typer", "cyclopts")
LOGGERS = ("getLogger", "get_logger")  # calls that receive the name of a module without changing it
MOST_STEPS = 10  # maps a name to the module that defines it

Functions = ast.FunctionDef | ast.AsyncFunctionDef
Kind = Literal["function", "class", "async", "command"]


@dataclass(frozen=True)
class Definition:
    """The definition of a name in the bundle: its file, relative to the bundle, and its line.

    Functions also have arguments and names (all names that the code mentions).
    """

    kind: Kind
    file: PurePosixPath
    line: int
    arguments: ast.arguments | None = None
    names: frozenset[str] = frozenset()

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Absent:
    """A module or class of the bundle that lacks a name; `functions` are those that it has."""

    owner: str
    name: str
    functions: tuple[str, ...]


def find_module(bundle: Path, name: str) -> Path | None:
    """The file of module package.module in a bundle or its src/; None if there is none."""
    for folder in (bundle / "src", bundle):
        path = folder.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def has_model(bundle: Path, path: str) -> bool:
    """Whether package.module.function can be in a bundle: one of the modules that may hold it exists."""
    parts = path.split(".")
    return any(find_module(bundle, ".".join(parts[:count])) for count in range(1, len(parts)))


def list_modules(bundle: Path) -> list[str]:
    """The top-level modules and packages of a bundle and of its src/."""
    folders = [folder for folder in (bundle, bundle / "src") if folder.is_dir()]
    files = [path for folder in folders for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py"))]
    names = {path.parent.name if path.name == "__init__.py" else path.stem for path in files}
    return sorted(name for name in names if name.isidentifier())


def read_function(bundle: Path, path: str) -> Definition | Absent | None:
    """The definition of package.module.function in a bundle; None if it is not known."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if file := find_module(bundle, ".".join(parts[:count])):
            return _Reader(bundle).find(file, ".".join(parts[:count]), parts[count:])
    return None


def read_functions(file: Path) -> list[ast.FunctionDef]:
    """The plain functions at the top of a module, in its order. Raises OSError, SyntaxError."""
    tree = ast.parse(file.read_bytes())
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


class _Reader:
    """Follows a name from module to module."""

    def __init__(self, bundle: Path) -> None:
        self._bundle, self._steps = bundle, 0

    def find(self, file: Path, module: str, names: Sequence[str]) -> Definition | Absent | None:
        self._steps += 1
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):  # the worker may have another Python
            return None
        if self._steps > MOST_STEPS:
            return None
        return self._find_in(tree.body, file, module, names)

    def _find_in(
        self, body: list[ast.stmt], file: Path, owner: str, names: Sequence[str]
    ) -> Definition | Absent | None:
        """Find a name among the statements of a module or class; names are it and its attributes."""
        bindings = list(_list_bindings(body))
        bound = [node for name, node in bindings if name == names[0]]
        if not bound:
            is_submodule = find_module(self._bundle, f"{owner}.{names[0]}") is not None
            is_special = names[0].startswith("__")  # such as __name__
            if is_special or is_submodule or any(name in ("*", "__getattr__") for name, _ in bindings):
                return None
            functions = [node.name for _, node in bindings if isinstance(node, Functions)]
            return Absent(owner, names[0], tuple(name for name in functions if name[0] != "_"))
        node = bound[0]
        if len(bound) > 1:
            return None
        if isinstance(node, ast.ImportFrom) and len(names) == 1:
            return self._follow(node, file, owner, names[0])
        if isinstance(node, ast.ClassDef) and not node.decorator_list:
            if len(names) == 1:
                return self._define("class", file, node)
            return (
                self._find_in(node.body, file, f"{owner}.{names[0]}", names[1:]) if not node.bases else None
            )
        if isinstance(node, Functions) and len(names) == 1:
            return self._read(node, file)
        return None

    def _follow(self, node: ast.ImportFrom, file: Path, owner: str, name: str) -> Definition | Absent | None:
        """Follow a name that another module of the bundle defines."""
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        module = node.module or ""
        if node.level:
            package = owner.split(".") if file.name == "__init__.py" else owner.split(".")[:-1]
            package = package[: len(package) - node.level + 1]
            module = ".".join((*package, module)) if module else ".".join(package)
        target = find_module(self._bundle, module) if module else None
        definition = self.find(target, module, [original]) if target else None
        return definition if isinstance(definition, Definition) else None

    def _read(self, node: Functions, file: Path) -> Definition | None:
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            names = ast.unparse(call).split(".")
            if names[0] in COMMAND_PACKAGES and names[-1] in ("command", "group"):
                return self._define("command", file, node)
            if names[-1] not in TRANSPARENT:
                return None
        return self._define("async" if isinstance(node, ast.AsyncFunctionDef) else "function", file, node)

    def _define(self, kind: Kind, file: Path, node: Functions | ast.ClassDef) -> Definition:
        place = PurePosixPath(file.relative_to(self._bundle).as_posix())
        if isinstance(node, ast.ClassDef):
            return Definition(kind, place, node.lineno)
        names = [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
        names += [each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)]
        return Definition(kind, place, node.lineno, node.args, frozenset(names))


def _list_bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """The names that statements bind, also below `if`, `try` and the like, each with the binding statement.

    "*" stands for names that cannot be determined.
    """
    for node in body:
        if isinstance(node, Functions | ast.ClassDef):
            if not _is_overload(node):
                yield node.name, node
            for child in ast.walk(node):
                if isinstance(child, ast.Global):
                    yield from ((name, child) for name in child.names)
                elif _reaches_module(child):
                    yield "*", node
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], node
        for child in ast.walk(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store | ast.Del):
                yield child.id, node
            elif isinstance(child, ast.Name) and child.id in ("vars", "setattr", "locals"):
                yield "*", node
            if _reaches_module(child) or _is_given_name(child):
                yield "*", node
        for name in ("body", "orelse", "finalbody"):
            yield from _list_bindings(getattr(node, name, []))
        for block in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            yield from _list_bindings(block.body)


def _reaches_module(node: ast.AST) -> bool:
    """Whether module names can be bound indirectly: globals(), exec(), sys.modules[__name__], and
    @enum.global_enum.
    """
    if isinstance(node, ast.Name):
        return node.id in ("globals", "exec", "global_enum")
    return isinstance(node, ast.Attribute) and node.attr in ("modules", "global_enum")


def _is_given_name(node: ast.AST) -> bool:
    """Whether a call receives the module's name and may bind names in it, as enum's "_convert_" does."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] in LOGGERS:
        return False
    return any(isinstance(value, ast.Name) and value.id == "__name__" for value in node.args)


def _is_overload(node: Functions | ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).split(".")[-1] == "overload" for decorator in node.decorator_list)
