"""The values of a release as layers, so that one preset can replace another.

    helm's values of a release -> ReleaseLayers (workload preset < own values < isolation preset)
    ReleaseLayers, ReleaseRequest -> Merged, checked -> helm's values, with a record of hidden values

Comparison with the presets shows which values are the release's own. If a preset overrides one of these, or
has the same value, the release's own is recorded in the value `layers`. So switching to another preset and
back gives the same values again, even if helm alone has changed some in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelops_dask.documents.findings import Finding
from mops_helm.values import layers, presets
from mops_helm.values.findings import FIXABLE_BY_OTHER_LAYERS, BadValues, errors
from mops_helm.values.load import Layer, load, loads
from mops_helm.values.merge import Merged
from mops_helm.values.tree import Json, Leaves, ValueTree, flatten, nest


@dataclass(frozen=True)
class ReleaseLayers:
    """A release's values by layer. A preset's name is "" if there is none."""

    workload: str = ""
    own_values: Mapping[str, Json] = field(default_factory=dict)
    isolation: str = ""


@dataclass(frozen=True)
class ReleaseRequest:
    """The request of a command line: presets (one of a kind at most), values files, --set flags.

    reset: forget the release's own values first.
    """

    presets: Sequence[str] = ()
    files: Sequence[Path] = ()
    sets: Sequence[str] = ()
    reset: bool = False


def split_layers(values: Mapping[str, Json]) -> ReleaseLayers:
    """The layers of a release, from its values (helm get values)."""
    note = values.get("layers") or {}
    workload, isolation = note.get("workload") or "", values.get("preset") or ""
    preset_leaves = _flatten_presets(workload, isolation)
    value_leaves = flatten({name: value for name, value in values.items() if name != "layers"})
    own_leaves = {
        path: value for path, value in value_leaves.items() if not _is_same(preset_leaves, path, value)
    }
    hidden = flatten(note.get("hidden") or {})
    return ReleaseLayers(workload, nest(hidden | own_leaves), isolation if _is_isolation(isolation) else "")


@dataclass(frozen=True)
class ReleaseValues:
    """The new values of a release: merged, those for helm, and warnings about them."""

    merged: Merged
    helm_values: Mapping[str, Json]
    warnings: Sequence[Finding]


def merge_request(current: ReleaseLayers, request: ReleaseRequest, release: str) -> ReleaseValues:
    """The layers of a release and a request, merged and checked.

    Presets replace those of their kind; files and --set override the release's own values, and all others
    stay. A file that names an isolation preset replaces it too. Raises BadInput, BadValues.
    """
    workload, isolation = presets.split_by_kind(request.presets)
    workload = workload or current.workload
    file_layers = [load(path) for path in request.files]
    own_layers = file_layers if request.reset else [*_load_own_layer(current, release), *file_layers]
    if not isolation and not any(layer.root.find("preset") for layer in file_layers):
        isolation = current.isolation
    under = [presets.find(workload).layer] if workload else []
    over = [presets.find(isolation).layer] if isolation else []
    merged = layers.merge_layers([*under, *own_layers, *over], request.sets)
    warnings = layers.check_usable(merged)
    own_values = layers.merge_layers(own_layers, request.sets).supplied_values
    return ReleaseValues(merged, _note_hidden(merged.supplied_values, own_values, workload), warnings)


def refuse_early(verb: str, request: ReleaseRequest) -> None:
    """Raise errors that do not depend on the release, before a cluster is contacted: BadInput, BadValues.

    For an install that is every error. For an upgrade the release's values are not known yet, so errors that
    these could fix are left to merge_request().
    """
    if verb == "install":
        merge_request(ReleaseLayers(), request, "")
        return
    sets = [flag for flag in request.sets if "[" not in flag]  # an index in a list that the release may have
    try:
        merge_request(ReleaseLayers(), replace(request, sets=sets), "")
    except BadValues as problem:
        findings = [
            finding for finding in errors(problem.findings) if finding.code not in FIXABLE_BY_OTHER_LAYERS
        ]
        if findings:
            raise BadValues(findings) from None


def _note_hidden(values: ValueTree, own_values: ValueTree, workload: str) -> ValueTree:
    """Merged values for helm: with `layers`, unless there is nothing to record."""
    preset_leaves = _flatten_presets(workload, values.get("preset") or "")
    value_leaves = flatten(values)
    own_values.pop("layers", None)
    hidden = {
        path: value
        for path, value in flatten(own_values).items()
        if path in preset_leaves and _is_same(preset_leaves, path, value_leaves.get(path))
    }
    values = {name: value for name, value in values.items() if name != "layers"}
    if workload or hidden:
        values["layers"] = {"workload": workload, "hidden": nest(hidden)}
    return values


def _load_own_layer(current: ReleaseLayers, release: str) -> list[Layer]:
    """The release's own values as a layer; none if it has none."""
    from mops_helm.forms import render_yaml

    if not current.own_values:
        return []
    return [loads(render_yaml(dict(current.own_values)), f"values of release {release}")]


def _is_isolation(name: str) -> bool:
    return name in presets.isolation_names()


def _flatten_presets(workload: str, isolation: str) -> Leaves:
    """The values of a release's presets. A preset that this version does not have has none."""
    names = [workload] if workload in presets.list_names() else []
    names += [isolation] if _is_isolation(isolation) else []
    leaves: Leaves = {}
    for name in names:
        leaves |= flatten(presets.find(name).values)
    return leaves


def _is_same(leaves: Leaves, path: tuple[str, ...], value: Json) -> bool:
    """Whether the leaf at a path is this value; helm stores 1.0 as 1, and true is not 1."""
    leaf = leaves.get(path)
    return path in leaves and leaf == value and isinstance(leaf, bool) == isinstance(value, bool)
