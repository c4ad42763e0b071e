"""Install and upgrade a release.

    presets, files, --set, the release's own values -> checked values -> ReleasePlan (the changes) -> helm

Nothing is sent if the values are bad. helm stores the release; scaling.py handles the ownership of a pool's
number of pods. Pods are followed in rollout.py.
"""

import json
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modelops_dask.documents.findings import Finding
from modelops_dask.errors import BadInput
from modelops_dask.kube.connect import Cluster
from mops_helm import helm
from mops_helm.helm import ReleaseRef
from mops_helm.release import diff as release_diff
from mops_helm.release import scaling as release_scaling
from mops_helm.release.diff import Objects
from mops_helm.release.values import ReleaseRequest, merge_request, split_layers
from mops_helm.values import presets
from mops_helm.values.tree import Json

Say = Callable[[str], object]


class NoRelease(BadInput):
    """The release to upgrade does not exist."""

    def __init__(self, place: ReleaseRef) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return (
            f"Release {self.place.release} does not exist in namespace {self.place.namespace}. List the "
            f"releases: {self.place.command_line('list')}   Create it: mops-helm install "
            f"{shlex.join([self.place.release, *self.place.flags])}"
        )


class ReleaseExists(BadInput):
    """A release of that name already exists."""

    def __init__(self, place: ReleaseRef) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return (
            f"Release {self.place.release} already exists in namespace {self.place.namespace}. Change it: "
            f"mops-helm upgrade {shlex.join([self.place.release, *self.place.flags])}"
        )


@dataclass(frozen=True)
class ReleasePlan:
    """What would be sent. before and after are objects by KIND/NAME; before is empty for an install."""

    place: ReleaseRef
    verb: str
    values: Mapping[str, Json] = field(repr=False)
    before: Objects = field(repr=False)
    after: Objects = field(repr=False)
    changes: tuple[tuple[str, Json, Json], ...]
    warnings: tuple[Finding, ...]

    @property
    def takes_studies(self) -> bool:
        return any("release.json" in (manifest.get("data") or {}) for manifest in self.after.values())


def add_direct(names: Sequence[str]) -> list[str]:
    """The requested presets, and `direct` unless one of them already runs tasks without warm processes.

    Another isolation preset contradicts it: merging them raises TwoPresets.
    """
    preset_values = [presets.find(name).values for name in names]
    has_direct = any((values.get("executor") or {}).get("type") == "direct" for values in preset_values)
    return [*names] if has_direct else [*names, "direct"]


def plan(verb: str, place: ReleaseRef, request: ReleaseRequest) -> ReleasePlan:
    """Everything that can be determined before anything is sent.

    Raises BadValues with the findings, NoRelease, ReleaseExists, HelmFailed.
    """
    current = helm.values(place)
    if verb == "install" and current is not None:
        raise ReleaseExists(place)
    if verb == "upgrade" and current is None:
        raise NoRelease(place)
    release_values = merge_request(split_layers(current or {}), request, place.release)
    with _write_values(release_values.helm_values) as path:
        after = release_diff.objects(helm.render(place, path, upgrade=verb == "upgrade"))
    before = release_diff.objects(helm.manifest(place)) if verb == "upgrade" else {}
    changes = release_diff.values(current or {}, release_values.helm_values)
    return ReleasePlan(
        place=place,
        verb=verb,
        values=release_values.helm_values,
        before=before,
        after=after,
        changes=tuple(changes),
        warnings=tuple(release_values.warnings),
    )


def send(cluster: Cluster, planned: ReleasePlan, say: Say, *, timeout_seconds: int, dry_run: bool) -> None:
    """Let helm carry out the plan, or only let the cluster's API check it. Raises HelmFailed,
    RequestRefused.
    """
    handover = release_scaling.plan_handover(cluster, planned.before, planned.after)
    major = helm.major()
    flags = ["--timeout", f"{timeout_seconds}s", *handover.flags(major)]
    for name, managers in handover.managers.items():
        say(f"{name} was changed by {managers}, not by helm: the values override that change")
    with _write_values(planned.values) as path:
        if dry_run:
            helm.send(planned.verb, planned.place, path, [*flags, "--dry-run=server"])
            return
        if major >= 4:
            release_scaling.hand_over(cluster, handover)
        helm.send(planned.verb, planned.place, path, flags)
    for name in release_scaling.put_back(cluster, handover):
        say(f"{name}: Helm {major} scaled it down to 1 pod; {handover.n_pods[name]} are requested again")


@contextmanager
def _write_values(values: Mapping[str, Json]) -> Iterator[Path]:
    """Values as one file of one document. JSON is YAML that all helm versions read alike."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.yaml"
        path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        yield path
