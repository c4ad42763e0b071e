"""Which values lie over which, from a command line's --preset, -f and --set.

    chart defaults < workload preset < -f files < isolation preset < --set -> Merged

An isolation preset lies above the files, so that it isolates whatever they say; --set has the last word.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mops_helm import paths
from mops_helm.values import check, presets, sets
from mops_helm.values.findings import BadValues, Finding, errors
from mops_helm.values.load import Source, load
from mops_helm.values.merge import Merged, empty, merge, overlay


def files(names: Sequence[str], given: Sequence[Path]) -> list[Path]:
    """The files in the order that helm is to get them; BadInput for presets that do not exist or are
    two of a kind.
    """
    workload, isolation = presets.chosen([name for name in names if name])
    under, over = ([presets.find(name).path] if name else [] for name in (workload, isolation))
    return [*under, *given, *over]


def stack(names: Sequence[str], given: Sequence[Path], flags: Sequence[str]) -> Merged:
    """The layers merged as they are, right or wrong; BadInput only for presets that do not exist or
    are two of a kind.
    """
    return lay([load(path) for path in files(names, given)], flags)


def lay(given: Sequence[Source], flags: Sequence[str]) -> Merged:
    """Sources over the chart's defaults, the last one on top, and the --set flags over all; not checked."""
    sources = list(given)
    own = empty(sources[0].name if sources else sets.FILE)
    for source in sources:
        own = overlay(own, source.root)
    if flags:
        sources.append(sets.load(flags, own))
        own = sources[-1].root
    found = [finding for source in sources for finding in source.findings]
    return merge(load(paths.CHART / "values.yaml"), own, sources, found)


def resolve(names: Sequence[str], given: Sequence[Path], flags: Sequence[str]) -> Merged:
    """The layers merged and checked; raises BadValues with every finding when one of them is an error."""
    merged = stack(names, given, flags)
    approved(merged)
    return merged


def approved(merged: Merged) -> list[Finding]:
    """The warnings about values that may be used; raises BadValues with every finding about others."""
    found = check.check(merged)
    if errors(found):
        raise BadValues(found)
    return found


def differences(first: Merged, second: Merged) -> list[tuple[str, Any, Any]]:
    """Dotted path and both values of every leaf that differs; None where one has no such value."""
    one, two = leaves(first.values), leaves(second.values)
    paths = sorted(one.keys() | two.keys())
    return [(path, one.get(path), two.get(path)) for path in paths if one.get(path) != two.get(path)]


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted path -> value of all that is not a mapping with something in it."""
    if not isinstance(value, dict) or not value:
        return {path: value} if path else {}
    found: dict[str, Any] = {}
    for key, inside in value.items():
        found |= leaves(inside, f"{path}.{key}".lstrip("."))
    return found
