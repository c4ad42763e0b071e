"""The guides' workspace.yaml as values of the chart.

    workspace.yaml (whole, its spec, or its workers part) -> values, and a line for each unsupported setting

Variables that belong to a value become that value, DASK_ variables become dask.config. Two names that the
guides' programs expect are written out: the service dask-scheduler and the Dask resource `aggregation`. The
result is not checked here: `values check` does that, and a test ensures that it passes.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import jsonschema

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, NodePath
from modelops_dask.errors import BadInput
from mops_helm.values import check_dask, check_schema, presets, schema
from mops_helm.values.findings import BadValues, errors
from mops_helm.values.load import load
from mops_helm.values.scalars import scalar_text
from mops_helm.values.tree import Json, ValueTree

_SECTIONS = ("scheduler", "workers", "autoscaling", "tolerations", "imagePullSecrets")
_WORKERS = ("replicas", "processes", "threads")
_AUTOSCALING = {
    "enabled": "enabled",
    "min_workers": "minReplicas",
    "max_workers": "maxReplicas",
    "target_cpu": "targetCPUUtilizationPercentage",
}
_SCHEDULING = ("nodeSelector", "tolerations", "affinity")
# Names that no workspace has, by which a values file is recognized.
_OF_VALUES = ("preset", "executor", "dask", "pools", "studies")
_OF_VALUES_IN_WORKERS = ("memoryPerProcess", "daskResources")


def convert(path: Path) -> tuple[ValueTree, list[str]]:
    """The values, and a line for each setting that was left out or changed.

    Raises BadInput for a file that is not a workspace, BadValues for an unreadable one and for bad numbers.
    """
    workspace = load(path)
    if errors(workspace.findings):
        raise BadValues(workspace.findings)
    spec = _read_spec(workspace.root.plain(), path)
    if findings := sorted(_check_numbers(workspace.root.find("spec") or workspace.root)):
        raise BadValues(findings)
    return _Conversion().run(spec)


def _read_spec(document: ValueTree, path: Path) -> ValueTree:
    value_names = [name for name in _OF_VALUES if name in document]
    value_names += [
        f"workers.{name}" for name in _OF_VALUES_IN_WORKERS if name in _as_map(document.get("workers"))
    ]
    if value_names:
        raise BadInput(
            f"{path}: not a workspace: {', '.join(value_names)} belongs to values, so this is already a "
            "values "
            f"file; check it with mops-helm values check {path}"
        )
    kind = document.get("kind", "Workspace")
    if "workspace" not in str(kind).lower():
        raise BadInput(f"{path}: not a workspace: its kind is {kind}")
    spec = document.get("spec", document)
    if isinstance(spec, dict) and any(isinstance(spec.get(name), dict) for name in _SECTIONS):
        return {**spec, "metadata": document.get("metadata", {})}
    if isinstance(spec, dict) and any(name in spec for name in _WORKERS):
        return {"workers": spec}
    raise BadInput(
        f"{path}: not a workspace: it has neither spec.workers nor workers nor replicas, processes or threads"
    )


def _check_numbers(spec: Node) -> Iterator[Finding]:
    """Numbers of workers and autoscaling that the chart would refuse, at their positions."""
    workers = spec.find("workers") or spec
    autoscaling = spec.find("autoscaling")
    numbers: list[tuple[Node | None, NodePath, NodePath]]  # section, path in the workspace, path in values
    numbers = [(workers, ("workers", name), ("workers", name)) for name in _WORKERS]
    numbers += [
        (autoscaling, ("autoscaling", old), ("workers", "autoscaling", new))
        for old, new in _AUTOSCALING.items()
    ]
    for section, path, value_path in numbers:
        node = section and section.find(path[-1])
        if node:
            value_schema = schema.find_schema(value_path)
            for error in jsonschema.Draft7Validator(value_schema).iter_errors(node.plain()):
                yield check_schema.describe_error(error, path, node.position)


class _Conversion:
    def __init__(self) -> None:
        self.values: ValueTree = {}
        self.notes: list[str] = []

    def run(self, spec: ValueTree) -> tuple[ValueTree, list[str]]:
        workers, scheduler = _as_map(spec.get("workers")), _as_map(spec.get("scheduler"))
        if image := workers.get("image"):
            self.values["image"] = _split_image(image)
        if secrets := spec.get("imagePullSecrets"):
            self.values["imagePullSecrets"] = secrets
        scheduler_values = self._convert_part("scheduler", scheduler, spec)
        if scheduler.get("image") not in (None, workers.get("image")):
            scheduler_values["image"] = _split_image(scheduler["image"])
        self.values["scheduler"] = {"service": {"name": "dask-scheduler"}, **scheduler_values}
        scaling = self._convert_autoscaling(_as_map(spec.get("autoscaling")))
        shape = {name: workers[name] for name in _WORKERS if name in workers}
        if scaling.get("enabled") and "replicas" in shape:
            self.notes.append(
                f"workers.replicas: {shape.pop('replicas')} has no effect while autoscaling is enabled"
            )
        part = self._convert_part("workers", workers, spec)
        self.values["workers"] = {**shape, "daskResources": {"aggregation": 1}, **part}
        if scaling:
            self.values["workers"]["autoscaling"] = scaling
        self._note_leftovers(spec, workers, scheduler)
        return self.values, self.notes

    def _convert_part(self, name: str, part: ValueTree, spec: ValueTree) -> ValueTree:
        """The common part of scheduler and workers."""
        values: ValueTree = {}
        if resources := self._convert_resources(name, _as_map(part.get("resources"))):
            values["resources"] = resources
        for key in _SCHEDULING:
            if part.get(key, spec.get(key)):
                values[key] = part.get(key, spec.get(key))
        if env := self._convert_env(name, part.get("env")):
            values["env"] = env
        return values

    def _convert_resources(self, name: str, resources: ValueTree) -> ValueTree:
        amounts = {key: resources[key] for key in ("requests", "limits") if resources.get(key)}
        bare = {key: value for key, value in resources.items() if key in ("cpu", "memory")}
        if bare:
            amounts["requests"] = {**bare, **amounts.get("requests", {})}
            self.notes.append(f"{name}.resources: {', '.join(bare)} written as a request")
        return amounts

    def _convert_autoscaling(self, scaling: ValueTree) -> ValueTree:
        for key in scaling.keys() - _AUTOSCALING.keys():
            self.notes.append(f"autoscaling.{key}: {scaling[key]} has no counterpart")
        return {new: scaling[old] for old, new in _AUTOSCALING.items() if old in scaling}

    def _convert_env(self, part: str, env: Json) -> ValueTree:
        """A list of name and value, or a map, as a map without names that belong to values."""
        variables: ValueTree = {}
        items = (
            env
            if isinstance(env, list)
            else [{"name": name, "value": value} for name, value in _as_map(env).items()]
        )
        for item in items:
            if not isinstance(item, dict) or not isinstance(name := item.get("name"), str):
                self.notes.append(f"{part}.env: {item!r} has no name")
            elif "valueFrom" in item:
                if name.startswith(("MODELOPS_", "DASK_")):
                    self.notes.append(f"{part}.env.{name}: valueFrom cannot be converted; left out")
                else:
                    variables[name] = {"valueFrom": item["valueFrom"]}
            elif name.startswith("DASK_"):
                self._set_dask(part, name, str(item.get("value", "")))
            elif name in schema.variables() or name.startswith("MODELOPS_"):
                self._set_owned(part, name, item.get("value", ""))
            else:
                variables[name] = item.get("value", "")
        return variables

    def _set_owned(self, part: str, name: str, value: Json) -> None:
        owner = schema.variables().get(name)
        if not owner:
            near = presets.did_you_mean(name, [n for n, path in schema.variables().items() if path])
            reason = "the chart sets it itself" if owner == "" else f"it is not used{near}"
            self.notes.append(f"{part}.env.{name}: {value}: {reason}; left out")
            return
        path = tuple(owner.split("."))
        self._set(path, _as_type(value, schema.allowed_types(path)))

    def _set_dask(self, part: str, name: str, text: str) -> None:
        """DASK_A__B_C=x sets a.b-c, as Dask reads it."""
        path, lacks_prefix = _find_setting(name.removeprefix("DASK_").lower().split("__"))
        if not path:
            self.notes.append(f"{part}.env.{name}: {text}: unknown Dask setting; left out")
            return
        if lacks_prefix and path[:3] != ("distributed", "worker", "memory"):
            right = "__".join(path).upper().replace("-", "_")
            self.notes.append(
                f"{part}.env.{name}: {text}: Dask never read it (its name is DASK_{right}); left out"
            )
            return
        if lacks_prefix:
            self.notes.append(
                f"{part}.env.{name}: {text}: Dask never read it; it now takes effect as "
                f"dask.config.{'.'.join(path)}"
            )
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = {"true": True, "false": False}.get(text.lower(), text)
        self._set(("dask", "config", *path), value)

    def _set(self, path: tuple[str, ...], value: Json) -> None:
        node = self.values
        for step in path[:-1]:
            node = node.setdefault(step, {})
        node[path[-1]] = value

    def _note_leftovers(self, spec: ValueTree, workers: ValueTree, scheduler: ValueTree) -> None:
        for key, value in _as_map(spec.get("metadata")).items():
            self.notes.append(f"metadata.{key}: {value} is an argument of helm install")
        common = {*_SCHEDULING, "image", "resources", "env"}
        groups = (
            ("", spec, {*_SECTIONS, *_SCHEDULING, "metadata", "apiVersion", "kind"}),
            ("workers.", workers, {*common, *_WORKERS}),
            ("scheduler.", scheduler, common),
        )
        for prefix, section, counterparts in groups:
            self.notes += [
                f"{prefix}{key}: {section[key]} has no counterpart"
                for key in section
                if key not in counterparts
            ]


def _find_setting(parts: list[str]) -> tuple[tuple[str, ...], bool]:
    """The setting of a variable, in Dask's spelling, and whether it lacked `distributed`; () if none."""
    for prefix in ([], ["distributed"]):
        names: check_dask.SettingNames | None = check_dask.load_setting_names()
        path: list[str] = []
        for part in (*prefix, *parts):
            name = part
            if names is not None:
                name = check_dask.find_spelling(part, names)
                if name not in names:
                    break
                names = names[name]
            path.append(name)
        else:
            return tuple(path), bool(prefix)
    return (), False


def _as_type(value: Json, types: tuple[str, ...]) -> Json:
    """A variable's text as the type of its value; unchanged if it does not fit: `values check` reports it."""
    text = scalar_text(value)
    if "boolean" in types and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    if "integer" in types and text.isascii() and text.isdigit():
        return int(text)
    return text


def _split_image(reference: str) -> dict[str, str]:
    name, _, digest = reference.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon belongs to a registry's port, or there is none
        repository, tag = name, ""
    fields = {"repository": repository, "tag": tag, "digest": digest}
    return {key: text for key, text in fields.items() if text}


def _as_map(value: Json) -> ValueTree:
    return value if isinstance(value, dict) else {}
