"""Install and upgrade a release.

    presets, files, --set, the release's own values -> checked values -> Plan (what changes) -> helm

Nothing is sent when the values are bad. helm keeps the release; who owns a pool's number of pods is put
right around helm (release_scaling.py). Does not look at pods: release_rollout.py does.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput
from modelops_dask.kube.connect import Cluster
from mops_helm import helm, release_diff, release_scaling
from mops_helm.helm import Place
from mops_helm.release_values import Asked, laid, taken_apart
from mops_helm.values import presets
from mops_helm.values.findings import Finding

Say = Callable[[str], object]


class NoRelease(BadInput):
    """There is nothing of that name to upgrade."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return (
            f"There is no release {self.place.release} in namespace {self.place.namespace}. Those that are "
            f"there: {self.place.line('list')}   A new one: mops-helm install"
        )


class ReleaseExists(BadInput):
    """There is a release of that name already."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return (
            f"There is a release {self.place.release} in namespace {self.place.namespace} already: "
            f"mops-helm upgrade {self.place.release} -n {self.place.namespace}"
        )


@dataclass(frozen=True)
class Plan:
    """What would be sent. before and after are objects by KIND/NAME; before is empty at an install."""

    place: Place
    verb: str
    values: Mapping[str, Any] = field(repr=False)
    before: Mapping[str, Any] = field(repr=False)
    after: Mapping[str, Any] = field(repr=False)
    changes: tuple[tuple[str, Any, Any], ...]
    warnings: tuple[Finding, ...]

    @property
    def takes_studies(self) -> bool:
        return any("release.json" in (each.get("data") or {}) for each in self.after.values())


def with_direct(names: Sequence[str]) -> list[str]:
    """The presets asked for, and `direct` unless one of them runs tasks without warm processes already.

    Another isolation preset contradicts it: TwoPresets, when they are laid.
    """
    found = [presets.find(name).values for name in names]
    already = any((values.get("executor") or {}).get("type") == "direct" for values in found)
    return [*names] if already else [*names, "direct"]


def plan(verb: str, place: Place, asked: Asked) -> Plan:
    """Everything that can be known before anything is sent.

    Raises BadValues with the findings, NoRelease, ReleaseExists, HelmFailed.
    """
    given = helm.values(place)
    if verb == "install" and given is not None:
        raise ReleaseExists(place)
    if verb == "upgrade" and given is None:
        raise NoRelease(place)
    found = laid(taken_apart(given or {}), asked, place.release)
    with _file(found.for_helm) as path:
        after = release_diff.objects(helm.render(place, path, upgrade=verb == "upgrade"))
    before = release_diff.objects(helm.manifest(place)) if verb == "upgrade" else {}
    changes = release_diff.values(given or {}, found.for_helm)
    return Plan(place, verb, found.for_helm, before, after, tuple(changes), tuple(found.warnings))


def send(cluster: Cluster, planned: Plan, say: Say, *, timeout_seconds: int, dry_run: bool) -> None:
    """Have helm do what was planned, or only have the cluster's API judge it. HelmFailed, Refused."""
    handover = release_scaling.find(cluster, planned.before, planned.after)
    major = helm.major()
    flags = ["--timeout", f"{timeout_seconds}s", *handover.flags(major)]
    for name, others in handover.taken.items():
        say(f"{name} was changed past helm, by {others}: what the values state wins")
    with _file(planned.values) as path:
        if dry_run:
            helm.send(planned.verb, planned.place, path, [*flags, "--dry-run=server"])
            return
        if major >= 4:
            release_scaling.hand_over(cluster, handover)
        helm.send(planned.verb, planned.place, path, flags)
    for name in release_scaling.put_back(cluster, handover):
        say(f"{name}: Helm {major} took it down to 1 pod; {handover.given[name]} are asked for again")


@contextmanager
def _file(values: Mapping[str, Any]) -> Iterator[Path]:
    """Values as one file of one document. JSON is YAML that every helm reads alike."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.yaml"
        path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        yield path
