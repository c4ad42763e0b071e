"""Where pods write: volumes that the chart has already, and a store of results that not all pods see.

    merged values -> findings, those of the chart's own checks (modelops-dask.check.volumes and .store)

Does not know what a cluster has: claims, classes and buckets are its own.
"""

from collections.abc import Iterator
from typing import Any

from mops_helm.values.check_schema import place
from mops_helm.values.findings import Finding
from mops_helm.values.merge import Merged

Path = tuple[str | int, ...]
_SHARED = "/shared"


def check(merged: Merged, bad: frozenset[Path]) -> Iterator[Finding]:
    """Findings about volumes of workers and pools, and about studies.store; places in `bad` have theirs."""
    own = _volumes(merged)
    pools = _plain(merged, "pools")
    for path in [("workers",), *(("pools", name) for name in (pools if isinstance(pools, dict) else ()))]:
        yield from _taken(merged, (*path, "volumes"), "name", {name: name for name in own})
        yield from _taken(merged, (*path, "volumeMounts"), "mountPath", {own[name]: name for name in own})
    if ("studies", "store") not in bad:
        yield from _store(merged)


def _volumes(merged: Merged) -> dict[str, str]:
    """The chart's own volumes: name -> where they are mounted."""
    volumes = {"dask-config": "/etc/dask", "scratch": "/tmp"}
    if _plain(merged, "tls", "enabled") is True:
        volumes["tls"] = "/etc/modelops/tls"
    if _plain(merged, "sharedVolume", "enabled") is True:
        volumes["shared"] = _SHARED
    return volumes


def _taken(merged: Merged, path: Path, key: str, own: dict[str, str]) -> Iterator[Finding]:
    listed = merged.own.find(*path)
    for number in range(len(listed.value) if listed is not None and isinstance(listed.value, list) else 0):
        stated = listed.find(number, key)
        taken = stated is not None and own.get(str(stated.value).removesuffix("/"))
        if taken:
            said = f"{'.'.join(map(str, path))}: {stated.value} is taken by the chart's own volume {taken}"
            where = stated.where
            yield Finding(where.file, where.line, where.column, "VOLUME_TAKEN", said, f"choose another {key}")


def _store(merged: Merged) -> Iterator[Finding]:
    """A folder must be on the shared volume; a URL may be anywhere."""
    store = _plain(merged, "studies", "store")
    if not store or "://" in store:
        return
    where = place(merged, ("studies", "store"))
    if not f"{store}/".startswith(f"{_SHARED}/"):
        said = f"studies.store: {store} is no place that all pods see"
        instead = f"write a URL (s3://bucket/studies), or a folder below {_SHARED} with sharedVolume.enabled"
    elif _plain(merged, "sharedVolume", "enabled") is False:
        said = f"studies.store: {store} is on the shared volume, and there is none"
        instead = "set sharedVolume.enabled: true"
    else:
        return
    yield Finding(where.file, where.line, where.column, "STORE_PLACE", said, instead)


def _plain(merged: Merged, *path: str) -> Any:
    found = merged.root.find(*path)
    return None if found is None else found.plain()
