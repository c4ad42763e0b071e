"""A command beside a release of another version: each understands what the other sends.

Run with the code and the chart of 0.1.0 from the history: the new command with the old chart and modules, and
the reverse. Between them go the release's offer, the driver's arguments and files, the question to the worker
processes with its answer, and the program that carries a large bundle.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from distributed import Client

from chart.rendering import KUBE_VERSION, tool
from fixture_helpers import REPOSITORY, v010_code
from helpers import wait_for
from modelops_dask.bundle import fetch
from modelops_dask.bundle.pack import pack
from mops_helm.study import pod_reader
from study_helpers import KNOBS, SMALL, environ, write_spec

ORDER = """
import base64, json, pathlib, sys
from modelops_dask.bundle import fetch
from modelops_dask.kube import jobs
{imports}
from modelops_dask.kube.jobs import Offer
data = json.load(open(sys.argv[1]))
offered = Offer(*(json.loads(data[f"{{part}}.json"]) for part in ("release", "job", "chunk")))
asked = {request}(spec.load(pathlib.Path("study.yaml")), fetch(sys.argv[2], pathlib.Path("cache")), chunks=1)
order, sent = submission.{make_order}(offered, asked, submission.{choose_store}(offered, asked))
files = {{name: base64.b64encode(data).decode() for name, data in order.files.items()}}
print(json.dumps({{"args": order.args, "files": files, "folder": jobs.FOLDER, "store": order.store}}))
"""
OLD_ORDER = ORDER.format(
    imports="from modelops_dask.study import spec\nfrom mops_helm import submission",
    request="submission.Request",
    make_order="order_of",
    choose_store="store_of",
)
NEW_ORDER = ORDER.format(
    imports="from modelops_dask.plan import spec\nfrom mops_helm.study import submission",
    request="submission.SubmitRequest",
    make_order="make_order",
    choose_store="choose_store",
)
# Each prints the program that its version sends to put a large bundle into a store.
OLD_UPLOAD = "from mops_helm.reading import KEEP; print(KEEP)"
NEW_UPLOAD = "import inspect; from modelops_dask.pod import upload; print(inspect.getsource(upload))"
STATUS = """
import json, sys
from {module} import {function}
print(json.dumps({function}(json.load(sys.stdin)[0], 1)))
"""


@dataclass(frozen=True)
class Version:
    """The code of a version, and where it keeps what this test calls."""

    root: Path
    order: str
    upload: str
    status: str

    def environ(self, folder: Path) -> dict[str, str]:
        path = os.pathsep.join(str(self.root / name) for name in ("engine", "cli"))
        return environ(folder) | {"PYTHONPATH": path}

    def python(self, *words: object, cwd: Path, stdin: bytes = b"", **variables: str) -> bytes:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=cwd,
            env=self.environ(cwd) | variables,
            input=stdin,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def offer(self) -> dict[str, str]:
        """What the chart of this version puts into the ConfigMap for `study submit`."""
        command = [tool("helm"), "template", "study", self.root / "charts" / "modelops-dask"]
        command += ["--kube-version", KUBE_VERSION, "--set", "sharedVolume.enabled=true"]
        command += ["--set", "studies.store=/shared/studies,executor.environment=image"]
        rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        objects = [each for each in yaml.safe_load_all(rendered) if each]
        (data,) = (
            each["data"] for each in objects if each["metadata"]["name"] == "study-studies" and "data" in each
        )
        return data


OLD_STATUS = STATUS.format(module="mops_helm.release_stages", function="of_process")
NEW_STATUS = STATUS.format(module="mops_helm.release.stages", function="read_process")
NEW = Version(REPOSITORY, NEW_ORDER, NEW_UPLOAD, NEW_STATUS)


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> dict[str, Version]:
    root = v010_code(tmp_path_factory.mktemp("v010"))
    return {"new": NEW, "old": Version(root, OLD_ORDER, OLD_UPLOAD, OLD_STATUS)}


@pytest.fixture(params=["new command, old release", "old command, new release"])
def pair(request, versions) -> tuple[Version, Version]:
    """The version of the command, and that of the release."""
    command, release = (words.split()[0] for words in request.param.split(", "))
    return versions[command], versions[release]


def test_the_versions_are_two(versions, tmp_path):
    script = "import modelops_dask; print(modelops_dask.__file__)"
    places = {version.python("-c", script, cwd=tmp_path) for version in versions.values()}
    assert len(places) == 2


def test_a_study_is_submitted_and_its_driver_runs_it(pair, tmp_path):
    command, release = pair
    (tmp_path / "study.yaml").write_text(
        "name: knobs\nentrypoint: knobs.wire/any\ngrid: {x: [1, 2, 3]}\nreplicates: 2\n"
    )
    (tmp_path / "offer.json").write_text(json.dumps(release.offer()))
    order = json.loads(command.python("-c", command.order, "offer.json", KNOBS, cwd=tmp_path))
    for name, text in order["files"].items():
        (tmp_path / name).write_bytes(base64.b64decode(text))

    def here(word: str) -> str:
        word = word.replace(order["folder"], str(tmp_path)).replace(order["store"], str(tmp_path / "store"))
        return word.replace("$(JOB_COMPLETION_INDEX)", "0")

    python, *words = map(here, order["args"])
    assert python == "python"
    kind = {"MODELOPS_EXECUTOR_TYPE": "direct", "MODELOPS_EXECUTOR_ENVIRONMENT": "image"}
    release.python(*words, cwd=tmp_path, **kind)
    rows = pq.read_table(tmp_path / "store" / "results" / "replicates.parquet")
    assert rows.num_rows == 6 and set(rows["status"].to_pylist()) == {"ok"}


@contextmanager
def workers_of(release: Version, folder: Path) -> Iterator[str]:
    """The address of a scheduler with a worker process of that version, started as its chart does."""
    kind = {"MODELOPS_EXECUTOR_TYPE": "direct", "MODELOPS_EXECUTOR_ENVIRONMENT": "image"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "dask"]
    flags = ["--scheduler-file", str(file), "--no-dashboard"]
    with ExitStack() as stack:

        def start(*words: str) -> None:
            process = subprocess.Popen(
                [*command, *words, *flags], env=release.environ(folder) | kind, **quiet
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(file.exists, "the scheduler", 60)
        address = json.loads(file.read_text())["address"]
        start("worker", "--nthreads", "1", "--memory-limit", "1GiB", "--preload", "modelops_dask.worker")
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield address


def test_a_status_is_read_from_the_processes_of_the_release(pair, tmp_path):
    command, release = pair
    with workers_of(release, tmp_path) as address:
        answer = release.python(
            "-m", "modelops_dask.ask", address, "distributed.worker.memory.spill", cwd=tmp_path
        )
    facts = json.loads(command.python("-c", command.status, cwd=tmp_path, stdin=answer))
    assert facts["executor.type"] == "direct" and facts["threads"] == "1"


def test_a_large_bundle_is_put_into_the_store_of_the_release(pair, tmp_path):
    command, release = pair
    bundle = fetch(str(KNOBS), tmp_path / "cache")
    program = command.python("-c", command.upload, cwd=tmp_path).decode()
    release.python("-c", program, tmp_path / "store", bundle.digest, cwd=tmp_path, stdin=pack(bundle))
    (kept,) = (tmp_path / "store" / "bundles").iterdir()
    assert kept.name == f"{bundle.digest.removeprefix('sha256:')}.tar.gz"


# What `study results`, `report` and `verify` of every version type in a pod of a release, after the store.
TYPED = [
    ("results", "--output", "replicates", "--to", "csv"),
    ("results", "-o", "json"),
    ("report", "--to", "-"),
    ("verify", "--sample", "0", "-o", "json"),
    ("verify", "--sample", "2", "-o", "json", "--set", "executor.environment=image"),
]


# What this version types first, and which image knows it: pod_reader then falls back to the words above.
TYPED_FIRST = [("results", "--table", "replicates", "-o", "csv"), ("results", "-o", "csv")]


@pytest.fixture(scope="module", params=["old", "new"])
def reader(request, versions, tmp_path_factory) -> tuple[Version, Path]:
    """A version, and a folder with a store that it wrote."""
    version, folder = versions[request.param], tmp_path_factory.mktemp("reader")
    write_spec(folder, n=3)
    words = ["study", "run", "study.yaml", "--store", "store", "--set", "executor.type=direct"]
    version.python("-m", "mops_helm.main", *words, *SMALL, cwd=folder)
    return version, folder


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_words_that_are_typed_in_a_pod_are_understood_there(reader, words):
    version, folder = reader
    verb, *flags = words
    assert version.python("-m", "mops_helm.main", "study", verb, "store", *flags, cwd=folder)


@pytest.mark.parametrize("words", TYPED_FIRST, ids=" ".join)
def test_new_words_are_understood_or_refused_in_words_that_the_command_knows(reader, words):
    version, folder = reader
    verb, *flags = words
    done = subprocess.run(
        [sys.executable, "-m", "mops_helm.main", "study", verb, "store", *flags],
        cwd=folder,
        env=version.environ(folder),
        capture_output=True,
        timeout=120,
    )
    refused = done.returncode == pod_reader.USAGE and pod_reader.UNKNOWN.search(done.stderr)
    assert bool(refused) == (version.root != REPOSITORY), done.stderr
