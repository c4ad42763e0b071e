"""typings/ declares what is there: every name in our stubs exists in the installed library."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

TYPINGS = Path(__file__).resolve().parents[2] / "typings"
BUFFER = "__buffer__"  # C code has it as a slot, and as a method from Python 3.12 on
STUBS = sorted(TYPINGS.rglob("*.pyi"))


def declared(body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Public functions, classes and attributes, with the body of a class."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node.body
        elif isinstance(node, ast.FunctionDef):
            yield node.name, []
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, []


def missing(module: object, body: list[ast.stmt]) -> list[str]:
    absent = []
    for name, inner in declared(body):
        value = getattr(module, name, None)
        if value is None and not hasattr(module, name):
            absent.append(name)
        elif isinstance(value, type):
            # Attributes that an instance gets when it is made are no attributes of its class.
            methods = [node for node in inner if isinstance(node, ast.FunctionDef) and node.name != BUFFER]
            absent += [f"{name}.{method}" for method in missing(value, methods)]
    return absent


@pytest.mark.parametrize("path", STUBS, ids=lambda path: str(path.relative_to(TYPINGS)))
def test_what_a_stub_declares_is_there(path):
    parts = path.relative_to(TYPINGS).with_suffix("").parts
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    assert missing(module, ast.parse(path.read_text()).body) == []


def test_a_name_that_is_not_there_is_noticed():
    methods = "    def cast(self): ...\n    def no_such_method(self): ...\n"
    stub = f"class Table:\n{methods}def no_such_function(): ...\n"
    absent = missing(importlib.import_module("pyarrow"), ast.parse(stub).body)
    assert absent == ["Table.no_such_method", "no_such_function"]
