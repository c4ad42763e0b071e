"""Studies of programs, from the command: what runs, what is refused, and that all that reads them works."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.plan.spec import load
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store.files import Store
from modelops_dask.store.identity import Damaged, read_study, upgrade
from modelops_dask.store.requests import plan_of
from modelops_dask.store.study import OtherStudy, begin
from modelops_dask.study import Study, packed, run
from modelops_dask.study.drive import find_refusal
from modelops_dask.study.summary import read_summary
from mops_helm.study import studies, submission
from mops_helm.study.forecast import preview_study
from study_helpers import SMALL, environ, finish, mops_helm

CC = shutil.which("cc")
DIGEST = "sha256:" + "0" * 64
MODEL = """#!/bin/sh
echo computing >&2
if [ "$1" = 3 ]; then echo "x must not be $1" >&2; exit 4; fi
printf 'day,value\\n1,%s\\n2,%s\\n' "$1" "$2" > out/table.csv
echo "$1 $2"
"""
COMMAND = ["./model", "{x}", "{seed}"]
OUTPUTS = {"table": "out/table.csv", "said": "-"}


def write_study(folder: Path, model: str = MODEL, **changes: object) -> Path:
    """In a folder of its own, beside which caches and stores are no part of the bundle."""
    bundle = folder / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "model").write_text(model)
    (bundle / "model").chmod(0o755)
    study = {"name": "p", "command": COMMAND, "outputs": OUTPUTS, "replicates": 2, "grid": {"x": [0.5, 1, 2]}}
    path = bundle / "study.yaml"
    path.write_text(json.dumps({**study, **changes}))
    return path


def raw_outputs(store: Path, name: str) -> list[bytes]:
    return pq.read_table(store / "results" / "raw" / f"{name}.parquet")["bytes"].to_pylist()


def test_a_study_of_a_program_runs_checks_itself_and_is_run_again(tmp_path):
    path, store = write_study(tmp_path), tmp_path / "out" / "p"
    done = mops_helm("study", "run", path, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Runs ./model '{x}' '{seed}'" in done.stderr
    assert "3 tasks compared with a run alone in a new process, all equal" in done.stdout
    assert "write files next to the model" not in done.stdout, "declared outputs are no surprise"
    tasks = list(plan_of(Store(str(store))).tasks([(0, 6)]))
    said = [f"{json.dumps(task.params['x'])} {task.seed}\n".encode() for task in tasks]
    assert raw_outputs(store, "said") == said
    table = pq.read_table(store / "results" / "model_outputs" / "table.parquet")
    values = [float(value) for task in tasks for value in (task.params["x"], task.seed)]  # of two types
    assert (table["day"].to_pylist(), table["value"].to_pylist()) == ([1, 2] * 6, values)

    redone = mops_helm("study", "run", path, "--redo", "0/0,2/1", "-o", "json", *SMALL, cwd=tmp_path)
    assert redone.returncode == 0, redone.stderr
    assert json.loads(redone.stdout)["run"]["tasks"] == 2

    path.unlink()  # the store has the command
    verified = mops_helm("study", "verify", store, "--sample", "2", *SMALL, cwd=tmp_path)
    assert verified.returncode == 0 and "2 tasks run again" in verified.stdout, verified.stdout
    tried = mops_helm("study", "try", store, "--task", "1/1", *SMALL, cwd=tmp_path)
    assert tried.returncode == 0, tried.stderr
    assert "Runs ./model" in tried.stderr and "computing" in tried.stderr


def test_failures_and_chance_that_is_not_the_seeds_are_reported(tmp_path):
    model = f"{MODEL}\n(echo time; date +%N) > out/table.csv\n"
    path = write_study(tmp_path, model, grid={"x": [1, 3]}, replicates=3)
    done = mops_helm("study", "run", path, "--check", "1", *SMALL, cwd=tmp_path)
    assert done.returncode == 3
    assert "ProgramFailed: exit status 4: x must not be 3" in done.stdout
    assert "randomness does not come from the seed" in done.stdout, done.stdout
    command = re.findall(r"mops-helm (study try .*)", done.stdout)[0]
    tried = mops_helm(*shlex.split(command), cwd=tmp_path)
    assert tried.returncode == 3 and "x must not be 3" in tried.stdout + tried.stderr
    assert "computing" in tried.stderr


# Which study it is


@pytest.fixture
def begun(tmp_path):
    """A store that a study of a program has begun."""
    (tmp_path / "first").mkdir()
    spec, store = load(write_study(tmp_path / "first")), Store(str(tmp_path / "store"))
    begin(store, spec, DIGEST)
    return store, spec


def test_the_store_has_the_command_and_the_entrypoint_names_it(begun):
    store, spec = begun
    assert json.loads(store.read("study.json"))["program"]["command"] == COMMAND
    assert (read_study(store).program, read_study(store).entrypoint) == (spec.program, spec.entrypoint)
    upgrade(store, read_study(store), 3)
    assert read_study(store).program == spec.program


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"command": [*COMMAND, "-v"]}, ['"{seed}"]', '"{seed}", "-v"]']),
        ({"environment": {"A": "1"}}, ["one without environment", 'environment: {"A": "1"}']),
        ({"outputs": {"said": "-"}}, ["out/table.csv", 'outputs: {"said"']),
        ({"scenario": "high"}, ["/baseline", "/high"]),
    ],
    ids=["command", "environment", "outputs", "scenario"],
)
def test_another_command_is_refused_with_both(begun, changes, texts, tmp_path):
    store, spec = begun
    other = load(write_study(tmp_path, **changes))
    with pytest.raises(OtherStudy) as refused:
        begin(store, other, DIGEST)
    before, _, after = str(refused.value).partition(", and this is ")
    assert texts[0] in before and texts[1] in after, str(refused.value)
    with pytest.raises(BadInput):
        plan_of(store, other)
    assert find_refusal(spec, Bundle(tmp_path, DIGEST), store) is None


def test_a_function_and_a_program_are_two_studies(begun, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("model: models.sir\nscenario: a\ngrid: {x: [1]}\n")
    with pytest.raises(OtherStudy, match=r"another command: command: .*one without command"):
        begin(begun[0], load(path), DIGEST)
    store = Store(str(tmp_path / "functions"))
    begin(store, load(path), DIGEST)
    with pytest.raises(OtherStudy, match="another command: one without command"):
        begin(store, begun[1], DIGEST)


@pytest.mark.parametrize("change", ["command", "missing"])
def test_a_command_that_the_entrypoint_does_not_name_is_damage(begun, change):
    store = begun[0]
    study = json.loads(store.read("study.json"))
    if change == "missing":
        del study["program"]
    else:
        study["program"]["command"][0] = "./other"
    store.put("study.json", json.dumps(study).encode())
    with pytest.raises(Damaged, match="program"):
        read_study(store)


def test_a_program_that_cannot_start_is_said_before_anything_runs(tmp_path):
    path = write_study(tmp_path, command=["./modle", "{x}", "{seed}"])
    workers = studies.Workers(Settings(bundles_cache_dir=tmp_path / "cache"))
    preview = preview_study(load(path), None, Store(str(tmp_path / "out")), workers)
    text = "command: there is no ./modle in the bundle; did you mean ./model?"
    assert str(preview.refusal) == text
    refused = mops_helm("study", "run", path, *SMALL, cwd=tmp_path)
    assert refused.returncode == 2 and text in refused.stderr
    assert not (tmp_path / "out").exists()


THREADS = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_barrier_t barrier;

static void *wait_for_all(void *nothing) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return nothing;
}

int main(int n, char **words) {
    int asked = atoi(words[1]);
    pthread_t threads[64];
    pthread_barrier_init(&barrier, NULL, asked);
    for (int i = 1; i < asked; i++) pthread_create(&threads[i], NULL, wait_for_all, NULL);
    pthread_barrier_wait(&barrier);
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "Threads:", 8)) printf("%d", atoi(line + 8));
    printf(" %s %s\n", getenv("OMP_NUM_THREADS"), getenv("OPENBLAS_NUM_THREADS"));
    pthread_barrier_wait(&barrier);
    return 0;
}
"""


@pytest.mark.skipif(not CC, reason="no C compiler")
@pytest.mark.parametrize("threads", [4, 1])
def test_a_program_has_the_threads_that_its_task_owns(threads, tmp_path):
    outputs, variables = {"said": "-"}, {"X": "{x}{seed}"}
    command = ["./threads", "{threads}"]
    study = {"command": command, "outputs": outputs, "environment": variables, "resources": {"process": 1}}
    path = write_study(tmp_path, **study)
    (tmp_path / "threads.c").write_text(THREADS)
    build = [CC, "-O1", "-pthread", tmp_path / "threads.c", "-o", path.parent / "threads"]
    subprocess.run(build, check=True)
    shape = f"workers.replicas=1,workers.threads={threads},executor.environment=image"
    options = ["--preset", "external-threads", "--set", shape, "--check", "1"]
    done = mops_helm("study", "run", path, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(raw_outputs(tmp_path / "out" / "p", "said")) == {b"%d %d %d\n" % (threads, threads, threads)}


def test_a_study_in_python_runs_a_program_also_under_direct(tmp_path, monkeypatch):
    monkeypatch.chdir(write_study(tmp_path).parent)
    study = Study(command=COMMAND, outputs={"table": "out/table.csv"}, grid={"x": [1, 2]}, replicates=2)
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    result = run(study, tmp_path / "store", settings=settings, shape=Shape(1, 1, 2, 2**30), check=1)
    assert result.ok and result.summary.self_check.n_equal == 1
    assert result.table("table")["day"].to_pylist() == [1, 2] * 4
    status = pq.read_table(tmp_path / "store" / "results" / "replicates.parquet")
    assert set(status["status"].to_pylist()) == {"ok"}


def test_a_job_gets_the_command_with_its_study_and_runs_it(tmp_path):
    """The document of a Job's pod, and a chunk of it by the pod's own program. The model ignores its seed."""
    model = '#!/bin/sh\necho "$1"\n'
    spec = load(write_study(tmp_path, model, outputs={"said": "-"}, grid={"x": [1, 2, 3]}, replicates=3))
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "spec.json").write_text(json.dumps(submission.make_document(spec)))
    assert packed.load(tmp_path / "pod" / "spec.json").entrypoint == spec.entrypoint
    shape = {"replicas": 1, "processes": 1, "threads": 1, "pod_memory_bytes": 2**30, "resources": {}}
    words = [
        "--spec",
        "pod/spec.json",
        "--bundle",
        "bundle",
        "--store",
        "store",
        "--shape",
        json.dumps(shape),
    ]
    pod = subprocess.Popen(
        [sys.executable, "-m", "modelops_dask.driver", *words, "--chunk", "0/1"],
        cwd=tmp_path,
        env={**environ(tmp_path), "MODELOPS_EXECUTOR_ENVIRONMENT": "image"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = finish(pod)
    assert done.returncode == 0, done.stderr
    assert raw_outputs(tmp_path / "store", "said") == [b"1\n"] * 3 + [b"2\n"] * 3 + [b"3\n"] * 3
    summary = read_summary(Store(str(tmp_path / "store")))
    assert "equal" in summary.variation, summary.variation
