"""Imports go one way, as docs/decisions/0001-layout.md says, and the commands import heavy packages late."""

import ast
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

# What a study is (data: what would run) is below the store, what runs it is above.
DESCRIPTION = {"contract", "document", "explicit", "fields", "plan", "sampling", "scalars", "spec"}
# A room of the engine and the rooms that it may import.
FOUNDATION = {"errors", "settings", "shape", "scratch", "metrics", "yaml_nodes", "seeding"}
ROOMS = {
    "errors": set(),
    "settings": {"errors"},
    "shape": {"errors"},
    "scratch": set(),
    "yaml_nodes": set(),
    "seeding": set(),
    "metrics": set(),
    "dask_logs": set(),
    "signals": set(),
    "bundle": FOUNDATION,
    "environments": FOUNDATION | {"bundle"},
    "venv": FOUNDATION | {"bundle", "environments"},
    "limits": FOUNDATION,
    "drain": set(),
    "init": set(),
    "ask": {"errors"},
    "check": FOUNDATION | {"bundle", "executors"},
    "executors": FOUNDATION | {"bundle", "venv", "limits"},
    "description": FOUNDATION | {"bundle"},
    "store": FOUNDATION | {"description"},
    "report": FOUNDATION | {"store", "description"},
    "worker": FOUNDATION | {"bundle", "venv", "limits", "executors"},
    "study": FOUNDATION
    | {
        "bundle",
        "environments",
        "venv",
        "limits",
        "executors",
        "store",
        "worker",
        "description",
        "drain",
        "memory",
        "remote",
    },
    "memory": FOUNDATION | {"limits", "local", "remote"},
    "diagnose": FOUNDATION
    | {"bundle", "venv", "limits", "executors", "store", "description", "study", "local"},
    "api": FOUNDATION | {"bundle", "executors", "store", "description", "study", "local", "remote", "memory"},
    "local": FOUNDATION | {"limits", "worker", "dask_logs"},
    "remote": FOUNDATION | {"worker", "dask_logs"},
    "kube": FOUNDATION | {"study", "description"},
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at the top or inside a function, absolute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write the package's name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def title(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=title)
def test_arrows(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "kubernetes":
            assert path.parent == ENGINE / "kube", "only the package kube talks to Kubernetes"
        if parts[:2] == ["modelops_dask", "kube"]:
            assert path == ENGINE / "driver.py" or path.parent in (ENGINE / "kube", CLI, CLI / "commands")
        if parts[0] == "mops_helm":
            assert CLI in path.parents, "the engine never imports the commands"
            if parts[1:2] == ["commands"]:
                assert path.parent == CLI / "commands", "nothing but a command imports a command"
        if parts[0] == "modelops_dask" and ENGINE in path.parents:
            here, there = room(path.relative_to(ENGINE).parts), room(tuple(parts[1:]))
            if here in ROOMS and there in ROOMS:
                assert there == here or there in ROOMS[here], f"{here} imports {name}"


def room(parts: tuple[str, ...]) -> str:
    """The room of a module of the engine, given as ("study", "plan.py") or ("study", "plan", "Plan")."""
    names = [part.removesuffix(".py") for part in parts] or [""]
    if names[0] == "study" and DESCRIPTION & set(names[1:2]):
        return "description"
    if names[0] == "study" and names[1:2] in (["api"], ["__init__"]):  # what a notebook imports
        return "api"
    if names[:2] == ["study", "memory"]:  # of workers here, or in pods
        return "memory"
    return names[0]


def test_every_room_of_the_engine_has_its_arrows():
    rooms = {room(path.relative_to(ENGINE).parts) for path in MODULES if ENGINE in path.parents} - {
        "__init__",
        "driver",
    }
    assert rooms <= set(ROOMS), "say in ROOMS what a new module may import"


def test_the_runner_needs_only_the_standard_library():
    """It is started by path with the bundle's Python, which has none of our packages."""
    files = "start.py", "runner.py", "messages.py", "mailbox.py", "outputs.py", "workspace.py"
    of_zygotes = "zygote.py", "children.py", "replay.py", "inherited.py"
    for path in (ENGINE / "seeding.py", *(ENGINE / "executors" / name for name in files + of_zygotes)):
        for name in imports(path):
            # Those two are modules of the worker, too.
            if path.name not in ("runner.py", "mailbox.py") or not name.startswith("modelops_dask."):
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
