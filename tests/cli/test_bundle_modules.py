"""`make lint` checks for Python 3.9 all that runs in a bundle's interpreter, however it gets there."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "engine" / "modelops_dask"
# Folders whose modules are started by path, with a bundle's interpreter.
PROGRAM_FOLDERS = (ENGINE / "executors", ENGINE / "diagnose" / "trials" / "inside")
# Functions that load a module by its name: from the caller's folder, or from that of a second argument.
LOADERS = {"_sibling", "_load_sibling"}


def checked_modules() -> set[Path]:
    """What the Makefile has mypy check as Python 3.9."""
    lint = subprocess.run(
        ["make", "-n", "-o", "dev", "-o", "tools", "lint"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (command,) = (line for line in lint.stdout.splitlines() if "mypy --python-version 3.9" in line)
    return {ROOT / word for word in command.split() if word.endswith(".py")}


def programs() -> set[Path]:
    return {
        path
        for folder in PROGRAM_FOLDERS
        for path in folder.glob("*.py")
        if '\nif __name__ == "__main__":\n' in path.read_text()
    }


def loaded_modules(path: Path) -> Iterator[Path]:
    """The modules of the engine that a module loads: by import, or by a loader of its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from engine_modules(node.module, [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from engine_modules(alias.name, [])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOADERS:
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            assert len(names) == len(node.args), f"{path}: a name that no test can read"
            name, *folders = map(str, names)
            yield (ENGINE.joinpath(*folders) if folders else path.parent) / f"{name}.py"


def engine_modules(module: str, names: list[str]) -> Iterator[Path]:
    """The files of `from module import names`, each of which is a module or something in it."""
    package, *parts = module.split(".")
    if package == "modelops_dask":
        for dotted in ([*parts], *([*parts, name] for name in names)):
            path = ENGINE.joinpath(*dotted).with_suffix(".py")
            if dotted and path.is_file():
                yield path


def test_what_runs_in_a_bundles_interpreter_is_checked_for_python_3_9():
    modules: set[Path] = set()
    waiting = programs()
    assert {path.name for path in waiting} == {"start.py", "runner.py", "zygote.py", "main.py"}
    while waiting:
        path = waiting.pop()
        modules.add(path)
        waiting |= {*loaded_modules(path)} - modules
    inside = {*(ENGINE / "diagnose" / "trials" / "inside").glob("*.py")}
    assert modules | inside == checked_modules(), "IN_BUNDLES in the Makefile"
