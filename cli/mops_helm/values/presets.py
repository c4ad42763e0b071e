"""The presets that come with the project: one file each, named after it.

An isolation preset names itself in the value `preset`; all others are workload presets. Presets and files are
merged in layers.py.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from modelops_dask.errors import BadInput
from mops_helm import paths
from mops_helm.values.load import Layer, load
from mops_helm.values.tree import ValueTree


class TwoPresets(BadInput):
    """More than one preset of a kind was requested."""

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        super().__init__(kind, names)
        self.kind = kind
        self.names = tuple(names)

    def __str__(self) -> str:
        return f"{' and '.join(self.names)} are both {self.kind} presets: use one of each kind"


@dataclass(frozen=True)
class Preset:
    """A preset's file. `purpose` is its first comment line."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def layer(self) -> Layer:
        return load(self.path)

    @property
    def values(self) -> ValueTree:
        tree: ValueTree = self.layer.root.plain()
        return tree

    @property
    def kind(self) -> Literal["isolation", "workload"]:
        return "isolation" if "preset" in self.layer.root.value else "workload"

    @property
    def purpose(self) -> str:
        first = next((line for line in self.text.splitlines() if line.startswith("#")), "")
        return first.lstrip("# ").removeprefix(f"{self.name}: ").rstrip()


def list_names() -> list[str]:
    """All presets by name."""
    return sorted(path.stem for path in paths.PRESETS.glob("*.yaml"))


def find(name: str) -> Preset:
    """Find a preset by name. Raises BadInput with the nearest names if there is none."""
    path = paths.PRESETS / f"{name}.yaml"
    if name not in list_names():
        near = did_you_mean(name, list_names())
        raise BadInput(f"unknown preset {name}{near or '; list all with mops-helm preset list'}")
    return Preset(name, path)


def split_by_kind(names: Sequence[str]) -> tuple[str, str]:
    """The workload and the isolation preset among the names, "" if there is none.

    Raises BadInput for an unknown preset, TwoPresets for two of a kind.
    """
    names_by_kind: dict[str, list[str]] = {"workload": [], "isolation": []}
    for name in dict.fromkeys(names):
        names_by_kind[find(name).kind].append(name)
    for kind, kind_names in names_by_kind.items():
        if len(kind_names) > 1:
            raise TwoPresets(kind, kind_names)
    return "".join(names_by_kind["workload"]), "".join(names_by_kind["isolation"])


def all_presets() -> list[Preset]:
    """Isolation presets, then workload presets, by name."""
    return sorted((find(name) for name in list_names()), key=lambda preset: (preset.kind, preset.name))


def isolation_names() -> list[str]:
    """Names that the value `preset` may have."""
    return [preset.name for preset in all_presets() if preset.kind == "isolation"]


def find_typing_error(name: str, candidates: Sequence[str]) -> str:
    """The one candidate that a name misspells; "" if several are near, or if no name is near enough."""
    near = difflib.get_close_matches(name, candidates, n=2, cutoff=0.65)
    certain = difflib.get_close_matches(name, candidates, n=2, cutoff=0.8)
    return certain[0] if len(near) == 1 and certain == near else ""


def did_you_mean(name: str, candidates: list[str]) -> str:
    """ "; did you mean a or b?", or nothing if no name is near."""
    near = difflib.get_close_matches(name, candidates, n=2, cutoff=0.65)
    near = near or [other for other in candidates if name and other.startswith(name)][:2]
    return f"; did you mean {' or '.join(near)}?" if near else ""
