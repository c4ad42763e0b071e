"""What a study stores is what each of its tasks answers in a new interpreter, without the engine.

Every model of tests/reference.py, under every executor, typed as `study run` and sent in batches of one task.
What an executor does not promise (the leak table of docs/executors.md, and Model.absent) must only end.
REFERENCE_REPLICATES=20 tries more seeds.
"""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import venv
from contextlib import nullcontext
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import reference
from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store.files import Store
from modelops_dask.study.dispatch import Limits
from modelops_dask.study.drive import drive
from modelops_dask.workers.local import local_cluster
from mops_helm.main import main
from reference import BUNDLES, MODELS, Answer, Model, Task

GIB = 1024**3
EXECUTORS = ("direct", "isolated_warm", "isolated_fork", "cold")
SIZES = {"as they come": None, "of one task": 1e-9}  # seconds that a batch should take
REPLICATES_OF_ONE = 1  # in batches of one task: the worker has run others of the model
IN_BATCHES_OF_ONE = {"leaves", "diagnose-healthy", "habits-units-in-place"} | {
    model.name
    for model in MODELS
    if model.raises  # and those are tried again soon
}


@pytest.fixture(scope="session")
def expected():
    """{(model, params, seed): Answer} of tasks, each computed once for all executors."""
    return {}


@pytest.fixture(scope="module", params=EXECUTORS)
def workers(request, tmp_path_factory):
    """An executor, and a client of its worker: two tasks at a time, in an environment of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "t").mkdir()
    venv.create(folder / "worker")  # a model installs a package
    settings = Settings(
        executor_type=request.param,
        executor_environment="image",
        subprocess_pool_size=2,
        bundles_cache_dir=folder / "bundles",
        venvs_dir=folder / "venvs",
    )
    env = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(folder / "t")}
    multiprocessing.set_executable(str(folder / "worker" / "bin" / "python"))
    try:
        with local_cluster(Shape(1, 1, 1, 2 * GIB), settings, env=env) as client:
            yield request.param, client
    finally:
        multiprocessing.set_executable(sys.executable)


def cells():
    for model in MODELS:
        for size in SIZES:
            if (size == "of one task" and model.name in IN_BATCHES_OF_ONE) or (
                size == "as they come" and not model.raises
            ):
                yield pytest.param(model, size, id=f"{model.name}, batches {size}")


@pytest.mark.parametrize(("model", "size"), list(cells()))
def test_every_task_answers_as_in_a_new_interpreter(workers, model, size, expected, tmp_path, monkeypatch):
    executor, client = workers
    if reason := model.absent.get(executor):
        pytest.skip(reason)
    if model.row and model.row not in reference.PROMISES[executor]:
        pytest.skip(f"the table of the docs has no row {model.row!r}")
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(tmp_path / "cache"))
    store = tmp_path / "out"
    if seconds := SIZES[size]:
        model = replace(model, replicates=min(model.replicates, REPLICATES_OF_ONE))
        in_batches_of(seconds, model, client, store)
    else:
        study = str(model.write_study(tmp_path))
        typed = ["study", "run", study, "-d", client.scheduler.address, "--store", str(store)]
        done = CliRunner().invoke(main, typed)
        assert done.exit_code in (0, 3), done.output
    rows = stored(store)
    tasks = {key(model, params, seed): params for params, seed, _, _ in rows}  # some had several attempts
    assert list(tasks.values()) == [one for one in model.sets for _ in range(model.replicates)]
    promised = [row for row in rows if model.is_promised(model.task(row[0], row[1]), executor)]
    learn(model, [model.task(params, seed) for params, seed, _, _ in promised], expected, tmp_path)
    differing = [
        (params, seed, status, answer, due)
        for params, seed, status, answer in promised
        if not equal(status, answer, due := expected[key(model, params, seed)])
    ]
    assert not differing, f"{len(differing)} of {len(promised)} answers, the first: {differing[0]}"
    if model.by_row:
        assert {status for _, _, status, _ in rows} == {"ok"}


def in_batches_of(seconds, model, client, store):
    study = model.write_study(store.parent)
    limits = Limits(batch_seconds=seconds, retry_seconds=0.01)
    bundle = fetch(str(BUNDLES / model.folder), store.parent / "cache")
    summary = drive(spec.load(study), bundle, Store(str(store)), lambda: nullcontext(client), limits=limits)
    assert summary.counts["pending"] == 0
    assert len(list((store / "parts").iterdir())) >= len(model.sets) * model.replicates


def stored(store) -> list[tuple[dict, int, str, Answer]]:
    """Of every attempt, in the order of tasks: parameters, seed, status, and what it answered."""
    sets = pq.read_table(store / "sets", columns=["set", "params"]).to_pylist()
    params = {one["set"]: json.loads(one["params"]) for one in sets}
    columns = ["set", "replicate", "seed", "status", "reason", "outputs"]
    rows = pq.read_table(store / "parts", columns=columns).sort_by(
        [("set", "ascending"), ("replicate", "ascending")]
    )
    return [
        (params[row["set"]], row["seed"], row["status"], Answer(row["reason"] or "", dict(row["outputs"])))
        for row in rows.to_pylist()
    ]


def learn(model: Model, tasks: list[Task], expected: dict, folder) -> None:
    """Have the answers of tasks in `expected`."""
    unknown = {key(model, task.params, task.seed): task for task in tasks}
    missing = [task for name, task in unknown.items() if name not in expected]
    for task, answer in zip(missing, reference.answers(model, missing, folder / "reference"), strict=True):
        expected[key(model, task.params, task.seed)] = answer


def key(model: Model, params: dict, seed: int) -> str:
    return json.dumps([model.name, params, seed])


def equal(status: str, answer: Answer, due: Answer) -> bool:
    if due == reference.FAILS:
        return status == "failed"
    return (status == "failed", answer) == (bool(due.reason), due)


def test_every_model_of_the_tests_is_compared_or_has_a_reason_not_to_be():
    folders = {path.parent for path in BUNDLES.rglob("*.py") if "vendor" not in path.parts}
    names = {str(folder.relative_to(BUNDLES)) for folder in folders if folder.name != "__pycache__"}
    assert names <= {model.folder for model in MODELS} | set(reference.ABSENT)


def test_a_task_runs_by_hand_as_the_docs_say(tmp_path):
    text = (BUNDLES.parents[1] / "docs" / "seeding.md").read_text()
    script = re.search(r"## A task by hand\n.*?```python\n(.*?)```", text, re.DOTALL)[1]
    (model,) = (model for model in MODELS if model.name == "habits-process-wide")
    task = model.task({"visits": 3}, 7)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(["any", task.params, task.seed])],
        cwd=BUNDLES / model.folder,
        env=os.environ | reference.VARIABLES | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (answer,) = reference.answers(model, [task], tmp_path)
    assert {name: data.encode() for name, data in eval(done.stdout).items()} == answer.outputs
