"""The values of a release as layers, so that one preset can be laid in place of another.

    helm's values of a release -> Layers (workload preset < own values < isolation preset)
    Layers and what is asked for -> Merged, checked -> helm's values, with a note of what the presets hide

What a preset states is told from a value of one's own by comparison; where a preset has the last word, or
both say the same, one's own is noted in the value `layers`. So a switch there and back gives the same values
again, also when helm alone has changed some in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mops_helm.values import layers, presets
from mops_helm.values.findings import MENDED_BY_OTHERS, BadValues, Finding, errors
from mops_helm.values.load import Source, load, loads
from mops_helm.values.merge import Merged

Leaves = dict[tuple[str, ...], Any]  # lists and empty maps are leaves


@dataclass(frozen=True)
class Layers:
    """A release's values taken apart. A preset's name is "" where there is none."""

    workload: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)
    isolation: str = ""


@dataclass(frozen=True)
class Asked:
    """What a command line asks for: presets (one of a kind at most), values files, --set flags.

    reset: forget the release's own values first.
    """

    presets: Sequence[str] = ()
    files: Sequence[Path] = ()
    sets: Sequence[str] = ()
    reset: bool = False


def taken_apart(values: Mapping[str, Any]) -> Layers:
    """The layers of a release, from the values that it was given (helm get values)."""
    noted = values.get("layers") or {}
    workload, isolation = noted.get("workload") or "", values.get("preset") or ""
    of_presets = _leaves_of_presets(workload, isolation)
    stated = leaves({name: value for name, value in values.items() if name != "layers"})
    own = {path: value for path, value in stated.items() if not _same(of_presets, path, value)}
    hidden = leaves(noted.get("hidden") or {})
    return Layers(workload, _nested(hidden | own), isolation if _isolates(isolation) else "")


@dataclass(frozen=True)
class Laid:
    """What a release becomes: merged values, those to give to helm, and warnings about them."""

    merged: Merged
    for_helm: Mapping[str, Any]
    warnings: Sequence[Finding]


def laid(current: Layers, asked: Asked, release: str) -> Laid:
    """The layers of a release and what is asked for, merged and checked.

    Presets replace those of their kind; files and --set lie over the values of one's own, and all else stays.
    A file that names an isolation preset replaces it too. Raises BadInput, BadValues.
    """
    workload, isolation = presets.chosen(asked.presets)
    workload = workload or current.workload
    given = [load(path) for path in asked.files]
    mine = given if asked.reset else [*_kept(current, release), *given]
    if not isolation and not any(source.root.find("preset") for source in given):
        isolation = current.isolation
    under = [presets.find(workload).source] if workload else []
    over = [presets.find(isolation).source] if isolation else []
    merged = layers.lay([*under, *mine, *over], asked.sets)
    warnings = layers.approved(merged)
    own = layers.lay(mine, asked.sets).own_values
    return Laid(merged, _put_together(merged.own_values, own, workload), warnings)


def refuse_early(verb: str, asked: Asked) -> None:
    """Raise what is wrong whatever the release has, before a cluster is asked: BadInput, BadValues.

    At an install that is every error. Under an upgrade lie values that are not known yet, so what these could
    mend is left to laid().
    """
    if verb == "install":
        laid(Layers(), asked, "")
        return
    sets = [flag for flag in asked.sets if "[" not in flag]  # a place in a list that the release may have
    try:
        laid(Layers(), replace(asked, sets=sets), "")
    except BadValues as bad:
        found = [each for each in errors(bad.findings) if each.code not in MENDED_BY_OTHERS]
        if found:
            raise BadValues(found) from None


def _put_together(values: dict[str, Any], own: dict[str, Any], workload: str) -> dict[str, Any]:
    """Merged values as helm gets them: with `layers`, unless there is nothing to note."""
    of_presets = _leaves_of_presets(workload, values.get("preset") or "")
    stated = leaves(values)
    own.pop("layers", None)
    hidden = {
        path: value
        for path, value in leaves(own).items()
        if path in of_presets and _same(of_presets, path, stated.get(path))
    }
    values = {name: value for name, value in values.items() if name != "layers"}
    if workload or hidden:
        values["layers"] = {"workload": workload, "hidden": _nested(hidden)}
    return values


def _kept(current: Layers, release: str) -> list[Source]:
    from mops_helm.render import yaml_text

    return [loads(yaml_text(dict(current.own)), f"values of release {release}")] if current.own else []


def _isolates(name: str) -> bool:
    return name in presets.isolation_names()


def _leaves_of_presets(workload: str, isolation: str) -> Leaves:
    """What the presets of a release state. One that this version does not have states nothing."""
    names = [workload] if workload in presets.names() else []
    names += [isolation] if _isolates(isolation) else []
    found: Leaves = {}
    for name in names:
        found |= leaves(presets.find(name).values)
    return found


def leaves(value: Any, path: tuple[str, ...] = ()) -> Leaves:
    """Every value that is no map, or an empty one, by its path."""
    if not isinstance(value, dict) or (not value and path):
        return {path: value}
    found: Leaves = {}
    for name, inside in value.items():
        found |= leaves(inside, (*path, name))
    return found


def _nested(flat: Leaves) -> dict[str, Any]:
    """The maps that have these leaves; the opposite of leaves()."""
    root: dict[str, Any] = {}
    for path, value in flat.items():
        inside = root
        for name in path[:-1]:
            inside = inside.setdefault(name, {})
        inside[path[-1]] = value
    return root


def _same(found: Leaves, path: tuple[str, ...], value: Any) -> bool:
    """Whether that is what stands there; helm keeps 1.0 as 1, and true is not 1."""
    there = found.get(path)
    return path in found and there == value and isinstance(there, bool) == isinstance(value, bool)
