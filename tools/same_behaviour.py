"""Whether two versions of the project behave alike, in what is written down: manifests, stores and JSON.

    same_behaviour.py BEFORE [AFTER]    two git references, or folders; AFTER: the working tree

    each version, in folders of its own: presets -> manifests, by every helm on PATH
                                         commands -> exit status and `-o json`
                                         studies under every executor -> rows of parts, tables, other files
    AFTER goes on with the stores of BEFORE

What differs between two runs of one version (times, memory, ids of processes and of parts, folders) is
replaced before it is compared. Prints the lines that differ and ends with 1, or counts what is alike.
"""

import difflib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
EXECUTORS = ("direct", "isolated_warm", "isolated_fork", "cold")
HELMS = ("helm", "helm3")
LINES, WIDTH = 20, 400  # of a difference that are shown
VOLATILE = re.compile(r"(\w+_)?(seconds|peak_bytes|second)|ended|runner|runner_task|uuid|created|sizes")
VARYING = re.compile(r"\b[0-9a-f]{32}\b|\b\d{4}-\d\d-\d\d[T ][0-9:.]+(Z|\+00:00)?|[0-9.]+ (s|ms|MiB|GiB)\b")
VALUES = {
    "good.yaml": "workers:\n  pools:\n    default:\n      replicas: 3\n      processes: 2\n",
    "bad.yaml": "workers:\n  replicas: no\n  memoryPerProces: 4g\n",
    "all.yaml": (
        "networkPolicy: {enabled: true}\ntls: {enabled: true}\nsharedVolume: {enabled: true}\n"
        "studies: {enabled: true, store: /shared/studies}\n"
        "workers:\n  resources: {requests: {cpu: 1}}\n"
        "  autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 4}\n"
        "pools:\n  large: {replicas: 1, memoryPerProcess: 8Gi}\n"
    ),
}
MODEL = """
import json

def wire(entrypoint, params, seed):
    if params["x"] == 2:
        raise ValueError("two")
    return {"a.json": json.dumps([params["x"], seed]), "b": b"1"}
"""
STUDY = "entrypoint: m.s/b\nbundle: bundle\nreplicates: 3\ngrid: {x: [1, 2, 3]}\n"


def main() -> int:
    before, after = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        records, stores = [], []
        for name, version in (("before", before), ("after", after)):
            tree = checkout(version, Path(folder, name))
            # One path for both: it is part of what is printed, and of the length of lines.
            place = Path(folder, "place")
            record = dict(record_behaviour(tree, place))
            records.append(record)
            stores.append(Path(folder, f"stores-{name}"))
            place.rename(stores[-1])
        place = Path(folder, "place")
        stores[0].rename(place)
        continued = dict(read_old_stores(checkout(after, Path(folder, "again")), place))
        place.rename(stores[0])
        stores[1].rename(place)
        records[0] |= continued
        records[1] |= dict(read_old_stores(checkout(after, Path(folder, "again")), place))
    return compare(*records)


def compare(before: dict[str, str], after: dict[str, str]) -> int:
    """Print what differs; the exit status."""
    differing = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    for name in differing:
        old, new = (record.get(name, "missing\n").splitlines() for record in (before, after))
        print(f"== {name}")
        difference = difflib.unified_diff(old, new, "before", "after", lineterm="", n=0)
        print("\n".join([line[:WIDTH] for line in difference][:LINES]))
    print(f"{len(before | after) - len(differing)} alike, {len(differing)} different")
    return 1 if differing else 0


def checkout(version: str, folder: Path) -> Path:
    """A version's files: those of a folder as they are, of a reference those in git."""
    if Path(version).is_dir():
        return Path(version).resolve()
    if not folder.exists():
        command = ["git", "-C", str(ROOT), "archive", version]
        content = subprocess.run(command, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
    return folder


def record_behaviour(tree: Path, place: Path) -> Iterator[tuple[str, str]]:
    """What is compared, by name."""
    place.mkdir()
    for name, text in VALUES.items():
        (place / name).write_text(text)
    (place / "study.yaml").write_text(STUDY)
    (place / "bundle").mkdir()
    (place / "bundle" / "wire.py").write_text(MODEL)
    chart = tree / "charts" / "modelops-dask"
    presets = sorted(path.stem for path in (tree / "values").glob("*.yaml"))
    sources = [*(tree / "values").glob("*.yaml"), *(tree / "examples" / "values").glob("*.yaml")]
    for helm in filter(shutil.which, HELMS):
        for path in [*sorted(sources), *(place / name for name in ("good.yaml", "all.yaml"))]:
            command = [helm, "template", "release", str(chart), "-f", str(path), "--kube-version", "1.34"]
            yield f"{helm} template {path.name}", sort_objects(run_program(command, tree, place))
    for preset in presets:
        yield from run_command(tree, place, "preset", "show", preset)
        yield from run_command(tree, place, "values", "explain", "--preset", preset)
    yield from run_command(tree, place, "preset", "list")
    yield from run_command(tree, place, "preset", "diff", *presets[:2])
    for name in VALUES:
        yield from run_command(tree, place, "values", "check", name)
    yield from run_command(tree, place, "study", "plan", "study.yaml")
    for executor in EXECUTORS:
        shape = ("--set", f"executor.type={executor}", "--set", "executor.environment=image")
        yield from run_command(tree, place, "study", "run", "study.yaml", "--store", executor, *shape)
        yield from read_store(tree, place, executor)


def read_old_stores(tree: Path, place: Path) -> Iterator[tuple[str, str]]:
    """What a version makes of stores that are there."""
    for executor in EXECUTORS:
        for name, text in read_store(tree, place, executor):
            yield f"later: {name}", text


def read_store(tree: Path, place: Path, store: str) -> Iterator[tuple[str, str]]:
    """A store's files, and what commands print of it."""
    for command in ("status", "results", "verify"):
        yield from run_command(tree, place, "study", command, store)
    yield from run_command(tree, place, "study", "try", store, "1/0")
    yield f"files of {store}", "".join(sorted(set(list_files(place / store))))


def run_command(tree: Path, place: Path, *arguments: str) -> Iterator[tuple[str, str]]:
    command = [sys.executable, "-m", "mops_helm.main", *arguments, "-o", "json"]
    yield " ".join(arguments), run_program(command, tree, place)


def run_program(command: list[str], tree: Path, place: Path) -> str:
    """Standard output and exit status, without what varies."""
    path = os.pathsep.join([str(tree / "engine"), str(tree / "cli")])
    variables = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}
    process = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True)
    text = process.stdout.replace(str(tree), "TREE").replace(str(place), "PLACE")
    try:
        text = json.dumps(mask_varying(json.loads(text)), indent=1)
    except ValueError:
        pass
    if not text:
        text = process.stderr.replace(str(tree), "TREE").replace(str(place), "PLACE")
    return f"{text}\nexit status {process.returncode}\n"


def mask_varying(value: Any, name: str = "") -> Any:
    """JSON without what varies from run to run."""
    if VOLATILE.fullmatch(name):
        return name.upper()
    if isinstance(value, dict):
        return {key: mask_varying(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [mask_varying(item) for item in value]
    return VARYING.sub("VARIES", value) if isinstance(value, str) else value


def sort_objects(manifests: str) -> str:
    """Manifests in an order that does not depend on the files that they come from."""
    documents = re.split(r"(?m)^---\n", re.sub(r"(?m)^# Source:.*\n", "", manifests))
    return "---\n".join(sorted(documents))


def list_files(folder: Path) -> Iterator[str]:
    """A line for each row of a Parquet file, for JSON and for the name of any other file."""
    for path in sorted(folder.rglob("*")):
        name = re.sub("[0-9a-f]{32}", "PART", str(path.relative_to(folder)))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            schema = str(table.schema.remove_metadata()).replace("\n", ", ")
            yield f"{name}: {schema}\n"
            for row in table.to_pylist():
                yield f"{name}: { ({key: mask_varying(item, key) for key, item in row.items()}) }\n"
        elif path.suffix == ".json":
            yield f"{name}: {json.dumps(mask_varying(json.loads(path.read_text())))}\n"
        elif path.is_file():
            yield f"{name}\n"


if __name__ == "__main__":
    sys.exit(main())
