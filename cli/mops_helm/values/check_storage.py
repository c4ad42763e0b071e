"""Storage of pods: volumes that the chart already has, and a store that not all pods can access.

    merged values -> findings, those of the chart's own checks (modelops-dask.check.volumes and .store)

The resources of a cluster, such as claims, classes and buckets, are not known here.
"""

from collections.abc import Iterable, Iterator

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, NodePath
from mops_helm.values.check_schema import find_position
from mops_helm.values.findings import finding_at
from mops_helm.values.merge import Merged, plain_at

_SHARED = "/shared"


def check(merged: Merged, bad_paths: frozenset[NodePath]) -> Iterator[Finding]:
    """Findings about volumes of workers and pools, and about studies.store, unless its path is bad."""
    chart_volumes = _chart_volumes(merged)
    pools = plain_at(merged.root, "pools")
    for path in [("workers",), *(("pools", name) for name in (pools if isinstance(pools, dict) else ()))]:
        volumes, mounts = _find_list(merged, path, "volumes"), _find_list(merged, path, "volumeMounts")
        yield from _check_duplicates(volumes, "name", chart_volumes)
        yield from _check_duplicates(mounts, "mountPath", chart_volumes.values())
        names = {*chart_volumes, *(_text_at(item, "name") for item in volumes)}
        for item in mounts:
            if (name := _text_at(item, "name")) not in names:
                position = (item.find("name") or item).position
                message = (
                    f"{_text_at(item, 'mountPath')} refers to volume {name or 'no name'}, which does not "
                    "exist"
                )
                suggestion = f"known: {', '.join(sorted(names))}"
                yield finding_at(position, "VOLUME_MISSING", message, suggestion)
    if ("studies", "store") not in bad_paths:
        yield from _check_store(merged)


def _chart_volumes(merged: Merged) -> dict[str, str]:
    """The chart's own volumes: name -> their mount path."""
    volumes = {"dask-config": "/etc/dask", "scratch": "/tmp"}
    if plain_at(merged.root, "tls", "enabled") is True:
        volumes["tls"] = "/etc/modelops/tls"
    if plain_at(merged.root, "sharedVolume", "enabled") is True:
        volumes["shared"] = _SHARED
    return volumes


def _find_list(merged: Merged, path: NodePath, key: str) -> list[Node]:
    """A pool's list, its own or that of workers: maps are merged, lists replaced."""
    for section in (path, ("workers",)):
        list_node = merged.supplied.find(*section, key)
        if list_node is not None:
            return (
                [item for item in list_node.value if isinstance(item.value, dict)]
                if isinstance(list_node.value, list)
                else []
            )
    return []


def _text_at(item: Node, key: str) -> str:
    child = item.find(key)
    return "" if child is None else str(child.value).removesuffix("/")


def _check_duplicates(items: list[Node], key: str, chart_texts: Iterable[str]) -> Iterator[Finding]:
    """Repeated names or paths, including the chart's own."""
    taken = dict.fromkeys(chart_texts, "the chart's own")
    for item in items:
        text = _text_at(item, key)
        if text in taken:
            position = (item.find(key) or item).position
            message = f"{key} {text} is taken by {taken[text]}"
            yield finding_at(position, "VOLUME_TAKEN", message, f"choose another {key}")
        taken.setdefault(text, "one above")


def _check_store(merged: Merged) -> Iterator[Finding]:
    """A folder must be on the shared volume; a URL may be anywhere."""
    store = plain_at(merged.root, "studies", "store")
    if not store or "://" in store:
        return
    position = find_position(merged, ("studies", "store"))
    if not f"{store}/".startswith(f"{_SHARED}/"):
        message = f"studies.store: {store} is not visible to every pod"
        suggestion = (
            f"write a URL (s3://bucket/studies), or a folder below {_SHARED} with sharedVolume.enabled"
        )
    elif plain_at(merged.root, "sharedVolume", "enabled") is False:
        message = f"studies.store: {store} is on the shared volume, which is not enabled"
        suggestion = "set sharedVolume.enabled: true"
    else:
        return
    yield finding_at(position, "STORE_PLACE", message, suggestion)
