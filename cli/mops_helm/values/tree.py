"""Values as plain maps: flatten a tree into its leaves, and nest leaves into a tree again.

    {workers: {threads: 2}}  <->  {(workers, threads): 2}

Lists and empty maps are leaves. Trees are merged in merge.py.
"""

from collections.abc import Iterable, Mapping
from typing import Any

# The contents of YAML or JSON. The schema defines the structure, and is checked before values are used.
Json = Any
ValueTree = dict[str, Json]
Scalar = str | int | float | bool | None
Leaves = dict[tuple[str, ...], Json]


def flatten(tree: Mapping[str, Json], path: tuple[str, ...] = ()) -> Leaves:
    """Every leaf of a tree by its path, in the order of the tree."""
    leaves: Leaves = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= flatten(value, (*path, name))
        else:
            leaves[*path, name] = value
    return leaves


def dotted(path: Iterable[str | int]) -> str:
    """A path in the form of messages."""
    return ".".join(map(str, path))


def flatten_dotted(tree: Mapping[str, Json]) -> dict[str, Json]:
    """Every leaf of a tree by its dotted path."""
    return {dotted(path): value for path, value in flatten(tree).items()}


def nest(leaves: Leaves) -> ValueTree:
    """The tree that has these leaves; the opposite of flatten()."""
    root: ValueTree = {}
    for path, value in leaves.items():
        branch = root
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = value
    return root
