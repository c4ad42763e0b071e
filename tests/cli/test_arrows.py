"""docs/architecture.md is true: imports go one way, and what it names is there.

The commands import heavy packages late.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "engine" / "modelops_dask"
CLI = ROOT / "cli" / "mops_helm"
SCAFFOLD = CLI / "scaffold" / "files"  # the user's code, not ours
MODULES = [
    path for package in (ENGINE, CLI) for path in package.rglob("*.py") if SCAFFOLD not in path.parents
]

# Names that charts and scripts of other versions use: each is one line that leads into a folder.
INTERFACE = {"init", "check", "ask", "driver", "drain", "worker"}
# The ground floor: modules in the root of the engine, and what each may import.
GROUND = {
    "errors": set(),
    "settings": {"errors", "shape"},
    "shape": {"errors"},
    "scratch": set(),
    "seeding": {"generators"},
    "generators": set(),
    "metrics": {"shape"},
    "placeholders": set(),
    "signals": set(),
}
PAGE = (ROOT / "docs" / "architecture.md").read_text()
TABLE = PAGE.partition("| folder | may also import |\n")[2].partition("\n\n")[0]
# The folders of the engine, from the lowest to the highest, and those that each may import.
ROOMS = {
    folder: set(filter(None, below.strip().split(", ")))
    for folder, below in re.findall(r"^\| ([a-z_]+) \|((?: [a-z_, ]+)?) \|$", TABLE, re.MULTILINE)
}


def imports(path: Path, for_types: bool = True) -> Iterator[str]:
    """Every module that a file imports, at the top or inside a function, absolute; without for_types only
    what is imported at run time.
    """
    tree = ast.parse(path.read_text())
    skipped = set() if for_types else {id(node) for block in type_blocks(tree) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write the package's name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def type_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    """What a module has under `if TYPE_CHECKING:`, which never runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from node.body


def title(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=title)
def test_arrows(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "kubernetes":
            assert path.parent == ENGINE / "kube", "only the package kube talks to Kubernetes"
        if parts[:2] == ["modelops_dask", "kube"]:
            assert path.parent in (ENGINE / "kube", ENGINE / "pod") or CLI in path.parents
        if parts[0] == "mops_helm":
            assert CLI in path.parents, "the engine never imports the commands"
            if parts[1:2] == ["commands"]:
                assert path.parent == CLI / "commands", "nothing but a command imports a command"
        if (
            parts[0] == "modelops_dask"
            and parts[1:]
            and ENGINE in path.parents
            and room(path) not in INTERFACE | {"__init__"}  # which has the names of study/api.py
        ):
            here, there = room(path), parts[1]
            assert there not in INTERFACE, "what others call by this name has another one here"
            allowed = GROUND.get(here, ROOMS.get(here, set()) | set(GROUND))
            assert there in {here, "__version__"} | allowed, f"{here} imports {name}"


def room(path: Path) -> str:
    """The folder of the engine that a file is in, or the name of a module in its root."""
    return path.relative_to(ENGINE).parts[0].removesuffix(".py")


def test_the_rooms_are_the_folders_and_no_arrow_leads_up():
    modules = {path.stem for path in ENGINE.glob("*.py")} - {"__init__"}
    assert folders(ENGINE) == set(ROOMS) and modules == set(GROUND) | INTERFACE
    floors = list(ROOMS)
    assert all(floors.index(below) < floors.index(name) for name, rooms in ROOMS.items() for below in rooms)


def test_the_picture_shows_the_folders_that_are_there():
    picture = re.search(r"## The folders\n.*?```text\n(.*?)```", PAGE, re.DOTALL)[1]
    drawn: dict[str, set[str]] = {}
    for line in picture.splitlines():
        if line and not line.startswith(" "):
            drawn[line.split("/ ")[0].rstrip("/")] = rooms = set()
        elif line:
            rooms |= set(re.findall(r"([a-z_]+)/", line[:36]))
    for name in ("cli/mops_helm", "engine/modelops_dask", "charts/modelops-dask/templates"):
        assert drawn[name] == folders(ROOT / name), name


def folders(path: Path) -> set[str]:
    return {
        child.name for child in path.iterdir() if child.is_dir() and child.name not in ("__pycache__", "data")
    }


def test_paths_and_modules_that_the_page_names_are_there():
    paths = set(re.findall(r"`((?:engine|cli|charts|schemas|tools|tests)/[^`*]+)`", PAGE))
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
    names = set(re.findall(r"`(modelops_dask\.[A-Za-z_.]+)`", PAGE))
    assert len(names) > 10
    for name in names:
        assert resolves(name), name


def resolves(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    return True


def test_the_root_folders_hold_few_modules():
    """A prefix or a group of modules in a root wants to be a folder."""
    engine = {path.stem for path in ENGINE.glob("*.py")} - INTERFACE - {"__init__"}
    cli = {path.stem for path in CLI.glob("*.py")} - {"__init__"}
    assert len(engine) <= 9 and len(cli) <= 8


def test_the_runner_needs_only_the_standard_library():
    """It is started by path with the bundle's Python, which has none of our packages."""
    files = "start.py", "runner.py", "messages.py", "mailbox.py", "outputs.py", "workspace.py", "functions.py"
    of_memory = "shortage.py", "crash.py"
    of_zygotes = "zygote.py", "children.py", "replay.py", "inherited.py"
    of_programs = "programs.py", "program_start.py", "program_outputs.py"
    own = [ENGINE / name for name in ("seeding.py", "generators.py", "placeholders.py")]
    own += (ENGINE / "executors" / name for name in files + of_memory + of_zygotes + of_programs)
    of_values = sorted((ENGINE / "return_values").glob("*.py"))
    for path in (*own, *of_values):
        for name in imports(path, for_types=False):
            # Those are modules of the worker, too.
            is_shared = path in of_values or path.name in (
                "runner.py",
                "mailbox.py",
                "outputs.py",
                "functions.py",
                *of_memory,
                *of_programs,
            )
            if not is_shared or not name.startswith("modelops_dask."):
                assert name.partition(".")[0] in sys.stdlib_module_names, name


def test_what_verifies_a_store_shares_no_code_with_what_writes_it():
    for path in (ENGINE / "store").glob("verify*.py"):
        ours = {name for name in imports(path) if name.startswith("modelops_dask.")}
        allowed = ("modelops_dask.errors.", "modelops_dask.store.verify")
        assert all(name.startswith(allowed) for name in ours), (title(path), ours)


def test_only_helm_py_calls_helm():
    callers = {title(path) for path in MODULES if CLI in path.parents and "subprocess" in set(imports(path))}
    assert callers <= {"cli/mops_helm/helm.py", "cli/mops_helm/doctor.py"}


def test_help_imports_nothing_heavy():
    script = (
        "import sys, pkgutil, importlib, mops_helm.main, mops_helm.options, mops_helm.commands as commands\n"
        "for module in pkgutil.iter_modules(commands.__path__):\n"
        "    importlib.import_module(f'mops_helm.commands.{module.name}')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "bokeh",
        "dask",
        "distributed",
        "numpy",
        "pyarrow",
        "jsonschema",
        "kubernetes",
        "ruamel",
        "scipy",
        "fsspec",
        "tqdm",
    }
    assert "click" in loaded
    assert not heavy & set(loaded)
