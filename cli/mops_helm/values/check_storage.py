"""Where pods write: volumes that the chart has already, and a store of results that not all pods see.

    merged values -> findings, those of the chart's own checks (modelops-dask.check.volumes and .store)

Does not know what a cluster has: claims, classes and buckets are its own.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from mops_helm.values.check_schema import place
from mops_helm.values.findings import Finding
from mops_helm.values.load import Node
from mops_helm.values.merge import Merged

Path = tuple[str | int, ...]
_SHARED = "/shared"


def check(merged: Merged, bad: frozenset[Path]) -> Iterator[Finding]:
    """Findings about volumes of workers and pools, and about studies.store; places in `bad` have theirs."""
    own = _volumes(merged)
    pools = _plain(merged, "pools")
    for path in [("workers",), *(("pools", name) for name in (pools if isinstance(pools, dict) else ()))]:
        volumes, mounts = _listed(merged, path, "volumes"), _listed(merged, path, "volumeMounts")
        yield from _taken(volumes, "name", own)
        yield from _taken(mounts, "mountPath", own.values())
        names = {*own, *(_text(item, "name") for item in volumes)}
        for item in mounts:
            if (name := _text(item, "name")) not in names:
                where = (item.find("name") or item).where
                said = f"{_text(item, 'mountPath')} is for {name or 'no name'}, and no volume has that name"
                instead = f"known: {', '.join(sorted(names))}"
                yield Finding(where.file, where.line, where.column, "VOLUME_MISSING", said, instead)
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


def _listed(merged: Merged, path: Path, key: str) -> list[Node]:
    """A pool's list, its own or that of workers: maps are merged, lists replaced."""
    for there in (path, ("workers",)):
        found = merged.own.find(*there, key)
        if found is not None:
            return (
                [item for item in found.value if isinstance(item.value, dict)]
                if isinstance(found.value, list)
                else []
            )
    return []


def _text(item: Node, key: str) -> str:
    found = item.find(key)
    return "" if found is None else str(found.value).removesuffix("/")


def _taken(items: list[Node], key: str, own: Iterable[str]) -> Iterator[Finding]:
    """Names or paths that are there twice, the chart's own counted."""
    taken = dict.fromkeys(own, "the chart's own")
    for item in items:
        text = _text(item, key)
        if text in taken:
            where = (item.find(key) or item).where
            said = f"{key} {text} is taken by {taken[text]}"
            yield Finding(where.file, where.line, where.column, "VOLUME_TAKEN", said, f"choose another {key}")
        taken.setdefault(text, "one above")


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
