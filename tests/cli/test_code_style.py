"""Names, records and types as docs/glossary.md and decision 16 have them."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / "engine" / "modelops_dask", ROOT / "cli" / "mops_helm"]
SCAFFOLD = ROOT / "cli" / "mops_helm" / "scaffold" / "files"  # the user's code, not ours
MODULES = [path for package in PACKAGES for path in package.rglob("*.py") if SCAFFOLD not in path.parents]
TREES = {path: ast.parse(path.read_text()) for path in MODULES}
# Participles and pronouns that name no thing.
VAGUE = set(
    re.findall(
        r"\w+",
        """
        again apart asked at beside chosen done each found given got held here instead kept
        known laid listed made mine more named noted of on one ours own ran room said seen
        shown some stated talk theirs there told took wanted what where who why words written
        """,
    )
)
STRICT = ("executors", "limits", "plan", "store", "values")
MOST_POSITIONAL = 5
MOST_IGNORES = 40


def bound_names(tree: ast.AST) -> Iterator[str]:
    """Names of assignments, loops and parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
            yield node.arg


def vague(trees: list[ast.AST]) -> float:
    names = Counter(name for tree in trees for name in bound_names(tree))
    return sum(count for name, count in names.items() if name in VAGUE) / names.total()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_names_are_nouns(package):
    assert vague([tree for path, tree in TREES.items() if package in path.parents]) < 0.01


def test_vague_names_are_noticed():
    assert vague([ast.parse("found = read()\nfor summary in found:\n    pass\n")]) == 0.5


def public_classes(trees: dict[Path, ast.AST]) -> dict[str, list[Path]]:
    places = defaultdict(list)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    return places


def test_a_class_name_means_one_thing():
    assert {name: paths for name, paths in public_classes(TREES).items() if len(paths) > 1} == {}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of a module and methods of its public classes, also those inside others."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        if not (isinstance(node, ast.ClassDef) and node.name.startswith("_")):
            yield from functions(node)


def crowded(tree: ast.AST) -> list[str]:
    """Public functions with more positional parameters than a reader can count at the call."""
    return [
        function.name
        for function in functions(tree)
        if not function.name.startswith("_") or function.name == "__init__"
        if len([a for a in function.args.args if a.arg not in ("self", "cls")]) > MOST_POSITIONAL
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_many_parameters_are_taken_by_keyword(path):
    assert crowded(TREES[path]) == []


def test_a_crowded_function_is_noticed():
    assert crowded(ast.parse("def draw(a, b, c, d, e, f): ...\ndef paint(a, b, c, d, e, *, f): ...")) == [
        "draw"
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_records_are_built_by_keyword(path):
    assert "._make(" not in path.read_text()
    assert starred_literals(TREES[path]) == []


def starred_literals(tree: ast.AST) -> list[str]:
    """Tuples and lists that are written out only to be unpacked."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Starred) and isinstance(node.value, ast.Tuple | ast.List)
    ]


def test_a_starred_literal_is_noticed():
    assert starred_literals(ast.parse("log(text, *(a, b))\nwords = [*(c, d), *e]")) == ["*(a, b)", "*(c, d)"]


def test_types_are_ignored_seldom_by_rule_and_with_a_reason():
    lines = [line for path in MODULES for line in path.read_text().splitlines() if "type: ignore" in line]
    assert len(lines) <= MOST_IGNORES
    assert [
        line for line in lines if not re.search(r"# type: ignore\[[a-z-]+(, ?[a-z-]+)*\]  ?# \w", line)
    ] == []
    files = [path for path in MODULES if re.search(r"^# mypy:", path.read_text(), re.MULTILINE)]
    assert files == [], "no file-wide ignores"


def any_in_signatures(tree: ast.AST) -> list[str]:
    """Public functions that take or return anything."""
    places = []
    for function in functions(tree):
        if function.name.startswith("_"):
            continue
        arguments = function.args
        every = [*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        annotations = [argument.annotation for argument in every if argument] + [function.returns]
        if any(annotation and "Any" in names_in(annotation) for annotation in annotations):
            places.append(function.name)
    return places


def names_in(annotation: ast.AST) -> set[str]:
    text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    return set(re.findall(r"\w+", str(text)))


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.parent.name in STRICT],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_strict_packages_say_what_they_take(path):
    assert any_in_signatures(TREES[path]) == []


def test_a_function_that_takes_anything_is_noticed():
    tree = ast.parse("def read(x: 'Any'): ...\ndef write(x: dict[str, Any]): ...\ndef _draw(x: Any): ...")
    assert any_in_signatures(tree) == ["read", "write"]
