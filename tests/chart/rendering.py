"""The chart as both helms render it: objects, texts and errors. Renders are kept for the session.

Does not assert: the tests do.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from modelops_dask.documents.nodes import YAML_LOADER

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "modelops-dask"
PRESETS = sorted((ROOT / "values").glob("*.yaml"))
EXAMPLES = sorted((ROOT / "examples" / "values").glob("*.yaml"))
KUBE_VERSION = "1.34.0"

Object = dict[str, Any]


def tool(name: str) -> str:
    """A program of `make tools`; there, or on the PATH."""
    found = shutil.which(
        name, path=os.pathsep.join([str(ROOT / ".tools" / "bin"), os.environ.get("PATH", "")])
    )
    assert found, f"{name} is missing; run: make tools"
    return found


HELMS = ["helm", "helm3"]
PRESET_VALUES = {path.stem: yaml.load(path.read_text(), Loader=YAML_LOADER) for path in PRESETS}
ISOLATION = [path for path in PRESETS if "preset" in PRESET_VALUES[path.stem]]
WORKLOAD = [path for path in PRESETS if "preset" not in PRESET_VALUES[path.stem]]


@cache
def run(helm: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """`helm template` of the chart as release `study`, with more arguments."""
    command = [
        tool(helm),
        "template",
        "study",
        CHART,
        "--namespace",
        "models",
        "--kube-version",
        KUBE_VERSION,
        *args,
    ]
    return subprocess.run(command, text=True, capture_output=True, timeout=60)


def text(helm: str, *args: str | Path) -> str:
    """What helm renders; the test fails with helm's own words if it does not."""
    done = run(helm, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _parsed(rendered: str) -> list[Object]:
    return [found for found in yaml.load_all(rendered, Loader=YAML_LOADER) if found]


def render(helm: str, *args: str | Path) -> list[Object]:
    """Every object that helm renders. Shared between tests: do not change it."""
    return _parsed(text(helm, *args))


def refusal(helm: str, *args: str | Path) -> str:
    """What helm says when it refuses these values."""
    done = run(helm, *args)
    assert done.returncode != 0, "helm rendered values that it should refuse"
    return done.stderr


def notes(*args: str | Path) -> str:
    """What helm prints after an install."""
    command = [tool("helm"), "install", "study", CHART, "--dry-run=client", "--namespace", "models", *args]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def layers(*paths: Path) -> list[str | Path]:
    """-f for each values file."""
    return [arg for path in paths for arg in ("-f", path)]


def stated(values: Object, path: Path) -> list[str | Path]:
    """-f for values of a test, written to path."""
    path.write_text(json.dumps(values))
    return ["-f", path]


def one(objects: list[Object], kind: str, name: str) -> Object:
    """The object of a kind and name."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, [title(item) for item in objects]
    return found[0]


def vendored(helm: str, checkout: Path) -> Path:
    """A copy of umbrella/ below a new folder, with the chart vendored in it as its readers would do it."""
    shutil.copytree(CHART, checkout / "charts" / "modelops-dask")
    platform = checkout / "tests" / "chart" / "umbrella"
    shutil.copytree(Path(__file__).parent / "umbrella", platform)
    command = [tool(helm), "dependency", "update", platform]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return platform


def title(item: Object) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each object that makes pods, and its pod template."""
    for item in objects:
        if "template" in item.get("spec", {}):
            yield item, item["spec"]["template"]


def all_pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """As pods(), and the pod of `helm test`, and the Jobs that drivers and chunks are made from."""
    yield from pods(objects)
    for item in objects:
        if item["kind"] == "Pod":
            yield {**item, "spec": {"template": item}}, item
        if item["kind"] == "ConfigMap" and "job.json" in item["data"]:
            for job in (driver_job(objects), chunk_job(objects)):
                yield job, job["spec"]["template"]


def driver_job(objects: list[Object]) -> Object:
    """The Job in the ConfigMap of studies, named as its reader would name it."""
    return _job(objects, "job.json", "driver")


def chunk_job(objects: list[Object]) -> Object:
    """The same of a study in chunks."""
    return _job(objects, "chunk.json", "chunks")


def _job(objects: list[Object], key: str, name: str) -> Object:
    job = json.loads(one(objects, "ConfigMap", "study-studies")["data"][key])
    job["metadata"]["name"] = name
    return job


def workers(objects: list[Object], pool: str = "default") -> Object:
    """The Deployment of a pool."""
    return one(objects, "Deployment", "study-worker" if pool == "default" else f"study-worker-{pool}")


def container(item: Object) -> Object:
    """The one container of an object's pods."""
    (found,) = item["spec"]["template"]["spec"]["containers"]
    return found


def flag(item: Object, name: str) -> str:
    """The value of a flag of the container's command."""
    command = container(item)["command"]
    assert command.count(name) == 1, command
    return command[command.index(name) + 1]


def env(item: Object) -> dict[str, Any]:
    """The container's variables: name -> value, or valueFrom."""
    return {row["name"]: row.get("value", row.get("valueFrom")) for row in container(item)["env"]}


def memory_limit(objects: list[Object], pool: str = "default") -> int:
    """--memory-limit of a pool's worker processes, in bytes."""
    return int(flag(workers(objects, pool), "--memory-limit"))
