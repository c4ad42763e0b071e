"""A study of an existing function: `study new --from FILE:FUNCTION`.

    FILE:FUNCTION -> its signature in the source -> study.yaml
    imports of FILE and of neighbouring modules -> pyproject.toml, if no file declares packages

Nothing is imported or changed, and no file is overwritten.
"""

import ast
import json
import keyword
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelops_dask.bundle import source
from modelops_dask.bundle.source import Absent, Definition
from modelops_dask.environments.imports import list_packages
from modelops_dask.errors import BadInput
from modelops_dask.executors.functions import (
    METHOD_NAMES,
    PASSED,
    SEED_NAMES,
    Signature,
    explain_kind,
    explain_method,
    explain_unknown,
    reads_arguments,
)
from mops_helm.scaffold.yaml_text import render_name, render_value

STUDY, PROJECT = "study.yaml", "pyproject.toml"
# Files that declare packages, or may: no file is written next to them.
DECLARES = (PROJECT, "requirements*.txt", "uv.lock", "environment*.y*ml", "setup.py", "setup.cfg", "Pipfile")
EXAMPLES: dict[str, list[object]] = {
    "int": [1, 2],
    "float": [0.1, 0.2],
    "bool": [True, False],
    "str": ["a", "b"],
    "list": [[1, 2]],
}
MOST_VARIED = 2  # parameters with more than one example value, because sets are their product


@dataclass(frozen=True)
class NewStudy:
    """The written files, and messages for the user."""

    files: list[Path]
    notes: list[str]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the function. default is its source; None for a parameter without one."""

    name: str
    annotation: str
    default: str | None


def create_study(text: str, folder: Path | None) -> NewStudy:
    """Write a study of FILE:FUNCTION into the folder, by default that of FILE or of its package.

    FILE alone is enough if it has one function. Raises BadInput.
    """
    file, function = _split(text)
    folder = _choose_folder(file, folder)
    module = _name_module(file, folder)
    definition = source.read_function(folder, f"{module}.{function}")
    if isinstance(definition, Absent):
        raise BadInput(explain_unknown(definition.owner, definition.name, definition.functions))
    if definition is None or definition.arguments is None:
        kind = definition.kind if definition else ""
        problem = (
            explain_kind(f"{module}.{function}", kind) if kind else f"{file} defines {function} in a way "
        )
        raise BadInput(problem if kind else f"{problem}that cannot be read; write a plain def that calls it")
    if definition.kind != "function":
        raise BadInput(explain_kind(f"{module}.{function}", definition.kind))
    names = [parameter.name for parameter in _list_parameters(definition.arguments)]
    if METHOD_NAMES.intersection(names[:1]):
        raise BadInput(explain_method(f"{module}.{function}"))
    if reads_arguments(Signature((), tuple(names), frozenset(), False), definition.names):
        raise BadInput(explain_kind(f"{module}.{function}", "arguments"))
    study_path = _choose_study(folder, function)
    study_path.write_text(_render_study(f"{module}.{function}", file.name, definition, file))
    packages = list_packages(file, folder)
    files, notes = [study_path], list(_find_loose_code(file))
    notes += [
        f"{name} of {function} is not a parameter that gets the seed of a task: rename it to seed, or all "
        "replicates are likely to be equal"
        for name in SEED_NAMES
        if name in names and "seed" not in names
    ]
    if packages and not any(True for rule in DECLARES for _ in folder.glob(rule)):
        path = folder / PROJECT
        path.write_text(_render_project(folder, file.name, packages))
        files.append(path)
        notes.append(f"{path} lists the packages that {file.name} imports: check the list")
    elif packages and not _declares_packages(folder):
        notes.append(f"List the packages of {file.name} under [project] of {PROJECT}: {', '.join(packages)}")
    return NewStudy(files, notes)


def suggest_functions(folder: Path) -> list[str]:
    """FILE:FUNCTION of some functions in a folder's modules, for `--from`."""
    found: list[str] = []
    for file in sorted(folder.glob("*.py")):
        try:
            functions = source.read_functions(file)
        except (OSError, SyntaxError, ValueError):
            continue
        found += [f"{file}:{node.name}" for node in functions if node.name[0] != "_"]
    return found[:5]


def _split(text: str) -> tuple[Path, str]:
    name, _, function = text.partition(".py:")
    if ".ipynb" in name:
        raise BadInput(
            f"{name} is a notebook, which cannot be imported: write the function to a file, with a cell that "
            "begins with %%writefile model.py"
        )
    file = Path(name if name.endswith(".py") else f"{name}.py")
    if not file.is_file():
        raise BadInput(f"{file}: no such file; write FILE:FUNCTION, such as model.py:simulate")
    try:
        functions = [node.name for node in source.read_functions(file) if node.name[0] != "_"]
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    if not function and len(functions) != 1:
        listed = f"it defines {', '.join(functions)}" if functions else "it defines no function"
        raise BadInput(
            f"name the function of {file}, as in {file}:{(functions or ['simulate'])[0]}; {listed}"
        )
    return file, function or functions[0]


def _choose_folder(file: Path, folder: Path | None) -> Path:
    """The folder that becomes the bundle: as typed, otherwise that of the file or of its package."""
    path = file.resolve()
    if folder is None:
        top = path.parent
        while (top / "__init__.py").is_file():
            top = top.parent
        top = top.parent if top.name == "src" else top
        here = Path.cwd().resolve()
        folder = Path(*top.relative_to(here).parts) if top.is_relative_to(here) else top
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(
            f"{file} is not in {folder}: name its folder, or one above it; everything in that "
            "folder is the model"
        )
    if folder.resolve() in (Path.home().resolve(), Path(path.anchor)):
        raise BadInput(
            f"{folder.resolve()} would be the bundle, with all its contents; move {file} to its own folder"
        )
    return folder


def _name_module(file: Path, folder: Path) -> str:
    """The import path of a file in a bundle."""
    parts = list(file.resolve().relative_to(folder.resolve()).with_suffix("").parts)
    if parts[0] == "src" and len(parts) > 1:
        del parts[0]
    if parts[-1] == "__init__" and len(parts) > 1:
        del parts[-1]
    for part in parts:
        if not part.isidentifier() or keyword.iskeyword(part):
            better = "".join(letter if letter.isalnum() else "_" for letter in part)
            raise BadInput(
                f"Python cannot import {file}: {part} is not a name; rename it, to {better} perhaps"
            )
    if parts[0] in sys.stdlib_module_names:
        raise BadInput(
            f"{file}: {parts[0]} is a module of Python's standard library, which is imported instead; rename "
            "it"
        )
    return ".".join(parts)


def _choose_study(folder: Path, function: str) -> Path:
    for path in (folder / STUDY, folder / f"study-{function}.yaml"):
        if not path.exists():
            return path
    raise BadInput(f"{folder / STUDY} and {path} already exist; nothing was written")


# The study file


def _list_parameters(arguments: ast.arguments) -> list[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    n_required = len(positional) - len(arguments.defaults)
    defaults = [*[None] * n_required, *arguments.defaults, *arguments.kw_defaults]
    return [
        Parameter(
            node.arg,
            ast.unparse(node.annotation) if node.annotation else "",
            ast.unparse(default) if default else None,
        )
        for node, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True)
    ]


def _render_study(path: str, file_name: str, definition: Definition, file: Path) -> str:
    assert definition.arguments is not None  # it is a function
    parameters = _list_parameters(definition.arguments)
    names = {parameter.name for parameter in parameters}
    own = [parameter for parameter in parameters if parameter.name not in PASSED]
    has_chance = bool(names & {"seed", "rng"}) or "random" in file.read_text("utf-8", "replace")
    name = path.rpartition(".")[2]
    lines = [
        f"# Which runs of {name} in {file_name} to make. `mops-helm study plan` estimates size, time and "
        "memory.",
        f"model: {path}",
    ]
    if "scenario" in names:
        lines.append("scenario: baseline  # EDIT: the scenario passed to the function")
    if has_chance:
        lines.append("replicates: 10  # runs of each parameter set, each with its own seed")
    else:
        lines.append(
            f"deterministic: true  # {name} takes no seed; if it is random, remove this line and add a seed"
        )
    return "\n".join([*lines, *_render_parameters(own, name)]) + "\n"


def _render_parameters(parameters: list[Parameter], name: str) -> Iterator[str]:
    """fixed: parameters with a default; grid: those without one, or the first number."""
    varied = [parameter for parameter in parameters if parameter.default is None]
    values = {parameter.name: _format_default(parameter.default) for parameter in parameters}
    if not varied:
        numbers = [each for each in parameters if values[each.name].strip("-")[:1].isdigit()]
        varied = (numbers or [each for each in parameters if values[each.name]])[:1]
    fixed = [parameter for parameter in parameters if parameter not in varied]
    if fixed:
        yield f"fixed:  # the same in every run; parameters left out have the defaults of {name}"
        for each in fixed:
            value = values[each.name]
            yield (
                f"  {render_name(each.name)}: {value}"
                if value
                else f"  # {each.name}: left out; its default is {each.default}"
            )
        if not any(values[each.name] for each in fixed):
            yield "  {}"
    if not varied:
        yield "sets: [{}]  # no parameter to vary"
        return
    yield "grid:  # every combination of these values; also {low: 0, high: 1, num: 5}"
    for number, each in enumerate(varied):
        value = values[each.name]
        if value:
            yield f"  {render_name(each.name)}: [{value}]  # EDIT: its default and values to compare with it"
        else:
            examples = _choose_examples(each.annotation)
            examples = examples if number < MOST_VARIED else examples[:1]
            note = f"EDIT: example values, {name} has no default"
            yield f"  {render_name(each.name)}: {render_value(examples)}  # {note}"


def _choose_examples(annotation: str) -> list[object]:
    """Example values of a parameter, by its annotation; for Literal, its first member."""
    kind, _, members = annotation.partition("[")
    if kind.rpartition(".")[2] == "Literal":
        try:
            member, *_ = ast.literal_eval(f"[{members}")
        except (ValueError, SyntaxError):
            return EXAMPLES["int"]
        return [member]
    return EXAMPLES.get(kind, EXAMPLES["int"])


def _format_default(text: str | None) -> str:
    """The value of a default's source, as YAML; "" if it cannot be a parameter's, or would become another."""
    try:
        value = ast.literal_eval(text or "None")
        if value is None or not _is_same(json.loads(json.dumps(value, allow_nan=False)), value):
            return ""
        json.dumps(value, ensure_ascii=False).encode()  # no lone surrogates
    except (ValueError, TypeError):
        return ""
    return render_value(value)


def _is_same(value: object, other: object) -> bool:
    """Whether two values are equal, and so are their types, down to the last item: 1 is not True."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_is_same(value[name], other[name]) for name in value)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_is_same, value, other))
    return value == other


# Packages


def _declares_packages(folder: Path) -> bool:
    if not (folder / PROJECT).is_file() or any(True for rule in DECLARES[1:] for _ in folder.glob(rule)):
        return True
    return "dependencies" in (folder / PROJECT).read_text("utf-8", "replace")


def _render_project(folder: Path, file_name: str, packages: list[str]) -> str:
    name = "".join(
        letter if letter.isalnum() and letter.isascii() else "-" for letter in folder.resolve().name
    )
    return (
        f"# The packages that {file_name} imports, by their usual names: check the list. With exact\n"
        "# versions (numpy==2.4.6) the study gives the same results next year.\n"
        "[project]\n"
        f'name = "{name.strip("-").lower() or "model"}"\n'
        'version = "0.1.0"\n'
        f"dependencies = {json.dumps(packages)}\n"
    )


def _find_loose_code(file: Path) -> Iterator[str]:
    """Statements of a module that run on import but belong in a program."""
    tree = ast.parse(file.read_bytes())
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
            continue
        for node in ast.walk(statement):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "id", getattr(called, "attr", ""))
            if name in own or name in ("parse_args", "input"):
                yield (
                    f"{file}:{statement.lineno} calls {name} whenever the file is imported: put it below `if "
                    '__name__ == "__main__":`'
                )
                break
