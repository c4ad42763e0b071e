"""The order of values from a command line's --preset, -f and --set.

    chart defaults < workload preset < -f files < isolation preset < --set -> Merged

An isolation preset overrides the files, so that it isolates whatever they contain; --set overrides
everything.
"""

from collections.abc import Sequence
from pathlib import Path

from modelops_dask.documents.findings import Finding
from mops_helm import paths
from mops_helm.values import check, presets, sets
from mops_helm.values.findings import BadValues, errors
from mops_helm.values.load import Layer, load
from mops_helm.values.merge import Merged, make_empty_node, merge, overlay
from mops_helm.values.tree import Json, flatten_dotted


def list_files(names: Sequence[str], files: Sequence[Path]) -> list[Path]:
    """The files of presets and the user's own, in the order for helm.

    Raises BadInput for presets that do not exist or are two of a kind.
    """
    workload, isolation = presets.split_by_kind([name for name in names if name])
    under, over = ([presets.find(name).path] if name else [] for name in (workload, isolation))
    return [*under, *files, *over]


def stack(names: Sequence[str], files: Sequence[Path], flags: Sequence[str]) -> Merged:
    """Merge the layers without checking them.

    Raises BadInput only for presets that do not exist or are two of a kind.
    """
    return merge_layers([load(path) for path in list_files(names, files)], flags)


def merge_layers(file_layers: Sequence[Layer], flags: Sequence[str]) -> Merged:
    """Layers over the chart's defaults, the last one on top, and the --set flags over all; not checked."""
    layers = list(file_layers)
    supplied = make_empty_node(layers[0].name if layers else sets.FILE)
    for layer in layers:
        supplied = overlay(supplied, layer.root)
    if flags:
        layers.append(sets.load(flags, supplied))
        supplied = layers[-1].root
    findings = [finding for layer in layers for finding in layer.findings]
    return merge(load(paths.CHART / "values.yaml"), supplied, layers, findings)


def resolve(names: Sequence[str], files: Sequence[Path], flags: Sequence[str]) -> Merged:
    """The layers merged and checked. Raises BadValues with every finding if one of them is an error."""
    merged = stack(names, files, flags)
    check_usable(merged)
    return merged


def check_usable(merged: Merged) -> list[Finding]:
    """The warnings about usable values. Raises BadValues with every finding about others."""
    findings = check.check(merged)
    if errors(findings):
        raise BadValues(findings)
    return findings


def compare(first: Merged, second: Merged) -> list[tuple[str, Json, Json]]:
    """Dotted path and both values of every leaf that differs; None if one side has no value."""
    before, after = flatten_dotted(first.values), flatten_dotted(second.values)
    names = sorted(before.keys() | after.keys())
    return [
        (name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    ]
