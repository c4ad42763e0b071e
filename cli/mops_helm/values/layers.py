"""Which values lie over which, from a command line's --preset, -f and --set.

    chart defaults < workload preset < -f files < isolation preset < --set -> Merged

An isolation preset lies above the files, so that it isolates whatever they say; --set has the last word.
"""

from collections.abc import Sequence
from pathlib import Path

from mops_helm import paths
from mops_helm.values import check, presets, sets
from mops_helm.values.findings import BadValues, errors
from mops_helm.values.load import load
from mops_helm.values.merge import Merged, empty, merge, overlay


def stack(preset_name: str | None, files: Sequence[Path], flags: Sequence[str]) -> Merged:
    """The layers merged as they are, right or wrong; BadInput only for a preset that does not exist."""
    sources = [load(path) for path in files]
    if preset_name:
        preset = presets.find(preset_name)
        sources.insert(0 if preset.kind == "workload" else len(sources), preset.source)
    own = empty(sources[0].name if sources else sets.FILE)
    for source in sources:
        own = overlay(own, source.root)
    if flags:
        sources.append(sets.load(flags, own))
        own = sources[-1].root
    found = [finding for source in sources for finding in source.findings]
    return merge(load(paths.CHART / "values.yaml"), own, sources, found)


def resolve(preset_name: str | None, files: Sequence[Path], flags: Sequence[str]) -> Merged:
    """The layers merged and checked; raises BadValues with every finding when one of them is an error."""
    merged = stack(preset_name, files, flags)
    found = check.check(merged)
    if errors(found):
        raise BadValues(found)
    return merged
