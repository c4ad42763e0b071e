"""Keys of jax that a model creates when it is imported: they cannot be changed, so tasks share them.

the bundle's source -> a note with file and line, before anything runs

The source is examined, not the process: a key is found if its call is at module level or in a class body.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from modelops_dask.bundle import Bundle

MAKERS = ("jax.random.key", "jax.random.PRNGKey")
MOST_BYTES = 1 << 20  # of a file that is read
_SHOWN = 3


def describe_keys(bundle: Bundle) -> str:
    """A note on keys that are created at import; "" if there are none."""
    places = [
        f"{path.relative_to(bundle.path)}:{line}"
        for path in sorted(bundle.path.rglob("*.py"))
        if "site-packages" not in path.parts
        for line in _find_lines(path)
    ]
    if not places:
        return ""
    examples = ", ".join(places[:_SHOWN]) + (", …" if len(places) > _SHOWN else "")
    return (
        f"The model creates a jax key when it is imported ({examples}). Keys cannot be seeded before each "
        "task, so every task has the same key. Create it in the wire function: jax.random.key(seed)."
    )


def _find_lines(path: Path) -> Iterator[int]:
    """The lines of a file that create a key when it is imported."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
        tree = ast.parse(data) if b"jax" in data else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError):  # for a later Python, or with another encoding
        return
    names: dict[str, str] = {}
    for node in _run_at_import(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in _run_at_import(tree):
        if isinstance(node, ast.Call):
            first, _, rest = ast.unparse(node.func).partition(".")
            if ".".join(filter(None, (names.get(first, first), rest))) in MAKERS:
                yield node.lineno


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one that run when the module is imported, in order."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "__name__ == '__main__'":
            continue
        yield child
        yield from _run_at_import(child)
