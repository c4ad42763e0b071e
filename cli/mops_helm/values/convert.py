"""The guides' workspace.yaml as values of the chart.

    workspace.yaml (whole, its spec, or its workers part) -> values, and a line for what has no counterpart

Variables that a value owns become that value, DASK_ variables become dask.config. Two names that the
guides' programs expect are written out: the service dask-scheduler and the Dask resource `aggregation`.
Does not check the result: `values check` does, and a test holds that it passes.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from modelops_dask.errors import BadInput
from mops_helm.values import check_dask, check_schema, presets, schema
from mops_helm.values.findings import BadValues, Finding, errors
from mops_helm.values.load import Node, load

_SECTIONS = ("scheduler", "workers", "autoscaling", "tolerations", "imagePullSecrets")
_WORKERS = ("replicas", "processes", "threads")
_AUTOSCALING = {
    "enabled": "enabled",
    "min_workers": "minReplicas",
    "max_workers": "maxReplicas",
    "target_cpu": "targetCPUUtilizationPercentage",
}
_KEPT = ("nodeSelector", "tolerations", "affinity")
# Names that no workspace has, so that a values file is told from one.
_OF_VALUES = ("preset", "executor", "dask", "pools", "studies")
_OF_VALUES_IN_WORKERS = ("memoryPerProcess", "daskResources")


def convert(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Values, and what was left out or changed, a line each. BadInput: unreadable, no workspace, or numbers
    that are none.
    """
    source = load(path)
    if errors(source.findings):
        raise BadValues(source.findings)
    spec = _spec(source.root.plain(), path)
    if found := sorted(_misfits(source.root.find("spec") or source.root)):
        raise BadValues(found)
    return _Conversion().run(spec)


def _spec(document: dict[str, Any], path: Path) -> dict[str, Any]:
    known = [name for name in _OF_VALUES if name in document]
    known += [f"workers.{name}" for name in _OF_VALUES_IN_WORKERS if name in _map(document.get("workers"))]
    if known:
        raise BadInput(
            f"{path}: no workspace: {', '.join(known)} belongs to values, so it is a values file already; "
            f"mops-helm values check {path}"
        )
    kind = document.get("kind", "Workspace")
    if "workspace" not in str(kind).lower():
        raise BadInput(f"{path}: no workspace: its kind is {kind}")
    spec = document.get("spec", document)
    if isinstance(spec, dict) and any(isinstance(spec.get(name), dict) for name in _SECTIONS):
        return {**spec, "metadata": document.get("metadata", {})}
    if isinstance(spec, dict) and any(name in spec for name in _WORKERS):
        return {"workers": spec}
    raise BadInput(
        f"{path}: no workspace: neither spec.workers nor workers nor replicas, processes or threads is here"
    )


def _misfits(spec: Node) -> Iterator[Finding]:
    """What the chart would not take of the workers' numbers and of autoscaling, at its place."""
    workers = spec.find("workers") or spec
    pairs = [(workers, "workers", name, name) for name in _WORKERS]
    pairs += [(spec.find("autoscaling"), "autoscaling", old, new) for old, new in _AUTOSCALING.items()]
    for section, title, old, new in pairs:
        node = section and section.find(old)
        if node:
            wanted = schema.at(("workers", new) if title == "workers" else ("workers", title, new))
            for error in jsonschema.Draft7Validator(wanted).iter_errors(node.plain()):
                yield check_schema.worded(error, (title, old), node.where)


class _Conversion:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.notes: list[str] = []

    def run(self, spec: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        workers, scheduler = _map(spec.get("workers")), _map(spec.get("scheduler"))
        if image := workers.get("image"):
            self.values["image"] = _image(image)
        if secrets := spec.get("imagePullSecrets"):
            self.values["imagePullSecrets"] = secrets
        own = self._part("scheduler", scheduler, spec)
        if scheduler.get("image") not in (None, workers.get("image")):
            own["image"] = _image(scheduler["image"])
        self.values["scheduler"] = {"service": {"name": "dask-scheduler"}, **own}
        scaling = self._autoscaling(_map(spec.get("autoscaling")))
        shape = {name: workers[name] for name in _WORKERS if name in workers}
        if scaling.get("enabled") and "replicas" in shape:
            self.notes.append(
                f"workers.replicas: {shape.pop('replicas')} has no effect while autoscaling is enabled"
            )
        part = self._part("workers", workers, spec)
        self.values["workers"] = {**shape, "daskResources": {"aggregation": 1}, **part}
        if scaling:
            self.values["workers"]["autoscaling"] = scaling
        self._left_out(spec, workers, scheduler)
        return self.values, self.notes

    def _part(self, name: str, part: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
        """What scheduler and workers have in common."""
        found: dict[str, Any] = {}
        if resources := self._resources(name, _map(part.get("resources"))):
            found["resources"] = resources
        for key in _KEPT:
            if part.get(key, spec.get(key)):
                found[key] = part.get(key, spec.get(key))
        if env := self._env(name, part.get("env")):
            found["env"] = env
        return found

    def _resources(self, name: str, resources: dict[str, Any]) -> dict[str, Any]:
        found = {key: resources[key] for key in ("requests", "limits") if resources.get(key)}
        bare = {key: value for key, value in resources.items() if key in ("cpu", "memory")}
        if bare:
            found["requests"] = {**bare, **found.get("requests", {})}
            self.notes.append(f"{name}.resources: {', '.join(bare)} written as a request")
        return found

    def _autoscaling(self, scaling: dict[str, Any]) -> dict[str, Any]:
        for key in scaling.keys() - _AUTOSCALING.keys():
            self.notes.append(f"autoscaling.{key}: {scaling[key]} has no counterpart")
        return {new: scaling[old] for old, new in _AUTOSCALING.items() if old in scaling}

    def _env(self, part: str, env: Any) -> dict[str, Any]:
        """A list of name and value, or a map, as a map without the names that values own."""
        kept: dict[str, Any] = {}
        items = (
            env
            if isinstance(env, list)
            else [{"name": name, "value": value} for name, value in _map(env).items()]
        )
        for item in items:
            if not isinstance(item, dict) or not isinstance(name := item.get("name"), str):
                self.notes.append(f"{part}.env: {item!r} has no name")
            elif "valueFrom" in item:
                if name.startswith(("MODELOPS_", "DASK_")):
                    self.notes.append(f"{part}.env.{name}: valueFrom cannot become a value; left out")
                else:
                    kept[name] = {"valueFrom": item["valueFrom"]}
            elif name.startswith("DASK_"):
                self._dask(part, name, str(item.get("value", "")))
            elif name in schema.variables() or name.startswith("MODELOPS_"):
                self._owned(part, name, item.get("value", ""))
            else:
                kept[name] = item.get("value", "")
        return kept

    def _owned(self, part: str, name: str, value: Any) -> None:
        owner = schema.variables().get(name)
        if not owner:
            near = presets.did_you_mean(name, [n for n, path in schema.variables().items() if path])
            why = "the chart sets it itself" if owner == "" else f"nothing here reads it{near}"
            self.notes.append(f"{part}.env.{name}: {value}: {why}; left out")
            return
        path = tuple(owner.split("."))
        self._set(path, _typed(value, schema.types(path)))

    def _dask(self, part: str, name: str, text: str) -> None:
        """DASK_A__B_C=x sets a.b-c, as Dask reads it."""
        path, wrong = _setting(name.removeprefix("DASK_").lower().split("__"))
        if not path:
            self.notes.append(f"{part}.env.{name}: {text}: Dask has no such setting; left out")
            return
        if wrong and path[:3] != ("distributed", "worker", "memory"):
            right = "__".join(path).upper().replace("-", "_")
            self.notes.append(
                f"{part}.env.{name}: {text}: Dask never read it (its name is DASK_{right}); left out"
            )
            return
        if wrong:
            self.notes.append(
                f"{part}.env.{name}: {text}: Dask never read it; as dask.config.{'.'.join(path)} it counts"
            )
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = {"true": True, "false": False}.get(text.lower(), text)
        self._set(("dask", "config", *path), value)

    def _set(self, path: tuple[str, ...], value: Any) -> None:
        node = self.values
        for step in path[:-1]:
            node = node.setdefault(step, {})
        node[path[-1]] = value

    def _left_out(self, spec: dict[str, Any], workers: dict[str, Any], scheduler: dict[str, Any]) -> None:
        for key, value in _map(spec.get("metadata")).items():
            self.notes.append(f"metadata.{key}: {value} is what you give to helm install")
        common = {*_KEPT, "image", "resources", "env"}
        groups = (
            ("", spec, {*_SECTIONS, *_KEPT, "metadata", "apiVersion", "kind"}),
            ("workers.", workers, {*common, *_WORKERS}),
            ("scheduler.", scheduler, common),
        )
        for prefix, found, known in groups:
            self.notes += [
                f"{prefix}{key}: {found[key]} has no counterpart" for key in found if key not in known
            ]


def _setting(parts: list[str]) -> tuple[tuple[str, ...], bool]:
    """The setting a variable names, as Dask spells it, and whether it lacked `distributed`; () if none."""
    for prefix in ((), ("distributed",)):
        names, path = check_dask.known(), []
        for part in (*prefix, *parts):
            if names is not None:
                part = check_dask.canonical(part, names)
                if part not in names:
                    break
                names = names[part]
            path.append(part)
        else:
            return tuple(path), bool(prefix)
    return (), False


def _typed(value: Any, types: tuple[str, ...]) -> Any:
    """A variable's text as the type of its value; as it is when it does not fit: `values check` says so."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "boolean" in types and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    if "integer" in types and text.isascii() and text.isdigit():
        return int(text)
    return text


def _image(reference: str) -> dict[str, str]:
    name, _, digest = reference.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon is a registry's port, or there is none
        repository, tag = name, ""
    found = {"repository": repository, "tag": tag, "digest": digest}
    return {key: text for key, text in found.items() if text}


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
