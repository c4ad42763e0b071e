"""Studies in the cluster while pods are lost, the API server is away, and memory does not suffice.

Every pod of a running study is taken away, one kind after the other, the workers by an upgrade; nothing is
lost.
"""

import json
import re
import secrets
import time

import pytest

from chart.rendering import CHART
from e2e.api_server import api_server_away
from e2e.clients import restricted
from e2e.cluster import CI_VALUES, eventually, install
from e2e.driver import driver_job
from e2e.volumes import shared_volume
from study_helpers import KNOBS, finish, mops_helm, start, wait_for_line

HUNGRY = CHART.parents[1] / "tests" / "bundles" / "hungry"
STORE = f"/shared/{secrets.token_hex(4)}"  # the volume may have been another test's before
LONG_SECONDS = 420
AWAY_SECONDS = 60
TASKS = 800  # of 0.2 s: they must last until the pods of an upgrade have come

# Ends the process of a driver as the kernel would, from within its pod.
KILL = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    words = path.read_bytes().split(b"\\0")
    if words[1:3] == [b"-m", b"modelops_dask.driver"]:
        os.kill(int(path.parts[2]), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def release(namespace):
    """Two workers in a pod each, under preset direct, and a volume for stores."""
    sets = ["workers.replicas=2,workers.processes=1,executor.environment=image"]
    sets += ["studies.driver.resources.requests.cpu=50m,studies.driver.resources.requests.memory=512Mi"]
    sets += ["sharedVolume.enabled=true,sharedVolume.size=10Gi", f"studies.store={STORE}"]
    direct = CHART.parents[1] / "values" / "direct.yaml"
    with shared_volume(install("faults", namespace, CI_VALUES, direct, sets=sets)) as installed:
        yield installed


@pytest.fixture
def typed(namespace, tmp_path):
    """typed(word, ...): the end of `mops-helm WORDS -n NAMESPACE`."""
    return lambda *words: mops_helm(*words, "-n", namespace, cwd=tmp_path, timeout_seconds=LONG_SECONDS)


def study(folder, name, bundle=KNOBS, **content):
    path = folder / f"{name}.yaml"
    entrypoint = f"{bundle.name}.wire/any"
    path.write_text(json.dumps({"name": name, "entrypoint": entrypoint, "bundle": str(bundle), **content}))
    return path


def submitted(typed, release, spec, *words):
    """The name of the Job."""
    done = typed("study", "submit", spec, "--release", release.name, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0]


def drivers(release, job):
    """Pods of a Job, oldest first: name, phase, exit status."""
    found = json.loads(release.kubectl("get", "pods", "-l", f"job-name={job}", "--output", "json"))["items"]
    rows = []
    for pod in sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"]):
        (state,) = [each["state"] for each in pod["status"].get("containerStatuses", [{"state": {}}])]
        code = state.get("terminated", {}).get("exitCode")
        rows.append((pod["metadata"]["name"], pod["status"]["phase"], code))
    return rows


def told(release, job, name="progress"):
    """What the Job's annotations say."""
    found = json.loads(release.kubectl("get", "job", job, "--output", "json"))
    return json.loads(found["metadata"].get("annotations", {}).get(f"modelops.io/{name}", "{}"))


def ended(release, job):
    """The summary of a Job that is over."""
    status = json.loads(release.kubectl("get", "job", job, "--output", "json"))["status"]
    over = {"Complete", "Failed"} & {state["type"] for state in status.get("conditions", ())}
    return told(release, job, "summary") if over else None


def gone_on(release, job, more):
    """Waits until so many more tasks are done, by the driver that runs then."""

    def done():
        said = told(release, job)
        assert told(release, job, "summary").get("exit_code") in (None, 130), "it ended before the next fault"
        return said.get("phase") == "running" and said.get("done", 0)

    start = eventually(done, "a study that runs")
    eventually(lambda: (done() or 0) >= start + more, f"{more} more tasks")


@pytest.mark.ci
def test_a_study_outlives_all_its_pods(release, typed, tmp_path):
    spec = study(tmp_path, "outlives", fixed={"seconds": 0.2}, grid={"x": list(range(TASKS))})
    job = submitted(typed, release, spec)
    gone_on(release, job, 10)

    before = {pod["metadata"]["name"] for pod in release.pods("worker")}
    greedy(release)  # a pod with the labels of workers that takes more memory than it may
    warm = ["--set", "preset=", "--set", "executor.type=isolated_warm", "--no-wait"]
    upgraded = typed("upgrade", release.name, *warm)
    assert upgraded.returncode == 0, upgraded.stderr
    eventually(lambda: "OOMKilled" in release.kubectl("logs", f"job/{job}"), "word of the pod out of memory")
    release.kubectl("delete", "pod", "greedy", "--wait=false")
    gone_on(release, job, 10)

    (first, *_), *_ = drivers(release, job)
    release.kubectl("delete", "pod", first, "--wait=false")
    second = eventually(lambda: other(release, job, {first}), "a second driver")
    gone_on(release, job, 10)

    release.kubectl("exec", "--stdin", second, "--", "python", "-", stdin=KILL)
    eventually(lambda: other(release, job, {first, second}), "a third driver")
    gone_on(release, job, 10)

    eventually(
        lambda: not before & {pod["metadata"]["name"] for pod in release.pods("worker")}, "new workers"
    )
    release.kubectl("delete", "pod", release.pods("scheduler")[0]["metadata"]["name"], "--wait=false")
    found = eventually(lambda: ended(release, job), "the end")
    assert (found["exit_code"], found["ok"], found["total"]) == (0, TASKS, TASKS), found
    *_, (last, _, _) = drivers(release, job)
    log = release.kubectl("logs", last)
    assert "The connection to the Dask scheduler was lost; continuing when it is back" in log
    checked = typed("study", "verify", "outlives", "--sample", "3")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "Nothing is wrong."), checked.stdout
    assert checked.stdout.startswith(f"{found['study']}: {TASKS} ok;")
    status = json.loads(release.kubectl("get", "job", job, "--output", "json"))["status"]
    assert status["succeeded"] == 1
    assert [code for _, _, code in drivers(release, job)][-2:] == [137, 0]
    made = attempts(release, found["study"])
    used = {one["executor"] for one in made if one["status"] == "ok"}
    assert used == {"direct", "isolated_warm"}, "before the upgrade and after it"


def attempts(release, store):
    """What a store on the volume has on record: the executor, status and end of each attempt."""
    worker = eventually(lambda: release.pods("worker"), "a worker that is ready")[0]["metadata"]["name"]
    read = "import json, sys; from pyarrow import parquet; print(json.dumps(parquet.read_table(sys.argv[1], "
    read += "columns=['executor', 'status', 'reason', 'ended']).to_pylist(), default=str))"
    command = ("--", "python", "-c", read, f"{store}/parts")
    return json.loads(release.kubectl("exec", worker, *command))


def test_a_study_does_not_need_the_api_server(release, typed, tmp_path):
    """Away for a minute, in which the study ends. Who watches is told, and sees the end."""
    spec = study(tmp_path, "away", fixed={"seconds": 0.2}, grid={"x": list(range(150))})
    where = ("--release", release.name, "-n", release.namespace)
    watching = start("study", "submit", spec, *where, "--watch", cwd=tmp_path)
    try:
        wait_for_line(watching, " tasks done, ", LONG_SECONDS)
        with api_server_away():
            began = time.time()
            wait_for_line(watching, "The API server does not respond")
            time.sleep(max(0, began + AWAY_SECONDS - time.time()))  # so long is the fault
            back = time.time()
    finally:
        done = finish(watching, LONG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "150 of 150 tasks done" in done.stderr
    checked = typed("study", "verify", "away")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "Nothing is wrong."), checked.stdout
    assert "150 ok; 150 attempts" in checked.stdout, checked.stdout
    store = checked.stdout.partition(":")[0]
    ends = [one["ended"] for one in attempts(release, store)]
    assert sum(began < end < back for end in ends) > 20, (began, back, ends)


def other(release, job, known):
    """The name of a driver's pod that runs and is not of these."""
    return next(
        (name for name, phase, _ in drivers(release, job) if phase == "Running" and name not in known), ""
    )


def greedy(release):
    """A pod of the release, as its labels say, that is killed for its memory."""
    labels = release.pods("worker")[0]["metadata"]["labels"]
    chosen = {name: labels[name] for name in labels if name.startswith("app.kubernetes.io/")}
    take = ["python", "-c", "held = [bytearray(b'x' * 10**7) for _ in range(100)]"]
    little = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    pod = restricted("greedy", take, chosen, name="worker", resources=little)
    release.kubectl("apply", "--filename", "-", stdin=json.dumps(pod))


def test_a_killed_chunk_goes_on_at_its_last_part(release, typed, tmp_path):
    spec = study(tmp_path, "chunks", fixed={"seconds": 0.2}, grid={"x": list(range(200))})
    job = submitted(typed, release, spec, "--chunks", "2")
    eventually(lambda: told(release, job, "progress-1").get("done", 0) > 5, "some tasks of a chunk")
    (victim,) = [name for name, _, _ in drivers(release, job) if name.startswith(f"{job}-1-")]
    release.kubectl("exec", "--stdin", victim, "--", "python", "-", stdin=KILL)
    found = eventually(lambda: ended(release, job), "the end")
    assert (found["exit_code"], found["ok"], found["total"]) == (0, 200, 200), found
    codes = [code for _, _, code in drivers(release, job)]
    assert 137 in codes, codes
    checked = typed("study", "verify", "chunks")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "Nothing is wrong."), checked.stdout
    assert re.search(r"200 ok; 2\d\d attempts", checked.stdout), checked.stdout


def test_without_workers_a_study_ends_by_a_verdict(release, tmp_path):
    """A Job of our own, with other arguments than `study submit` gives: 300 seconds are long."""
    spec = study(tmp_path, "nobody", grid={"x": [1]})
    worker = release.pods("worker")[0]["metadata"]["name"]
    write = f"import pathlib, sys; p = pathlib.Path('{STORE}/nobody'); p.mkdir(parents=True, exist_ok=True); "
    for name, path in (("spec.json", spec), ("wire.py", KNOBS / "wire.py")):
        code = f"{write}(p / '{name}').write_text(sys.stdin.read())"
        release.kubectl("exec", "--stdin", worker, "--", "python", "-c", code, stdin=path.read_text())
    where = f"{STORE}/nobody"
    command = ["python", "-m", "modelops_dask.driver", "--spec", f"{where}/spec.json", "--bundle", where]
    command += ["--store", f"{where}/store", "--wait-seconds", "15", "--scheduler"]
    release.kubectl("scale", f"deployment/{release.name}-worker", "--replicas=0")
    try:
        eventually(lambda: not release.pods("worker"), "no worker")
        release.kubectl("apply", "-f", "-", stdin=json.dumps(driver_job(release, "nobody", command)))
        found = eventually(lambda: told(release, "nobody", "summary"), "a verdict")
        ended = eventually(
            lambda: [row for row in drivers(release, "nobody") if row[2] is not None], "its end"
        )
    finally:
        release.kubectl("scale", f"deployment/{release.name}-worker", "--replicas=2")
        release.kubectl("delete", "job", "nobody", "--ignore-not-found")
    assert found["exit_code"] == 4
    assert "no worker was available for 15 seconds" in found["verdict"]
    assert "The release has no worker pods" in found["verdict"]
    assert [code for _, _, code in ended] == [4], "it is not tried again"


@pytest.fixture(scope="module")
def hungry(release):
    """The incident's shape: pods of 2Gi with four processes each."""
    sets = ["workers.replicas=2,workers.processes=4,workers.memoryPerProcess=488Mi"]
    sets += ["executor.environment=image,studies.driver.resources.requests.cpu=50m"]
    sets += ["studies.driver.resources.requests.memory=512Mi"]
    sets += [f"sharedVolume.enabled=true,sharedVolume.existingClaim={release.name}-shared"]
    sets += [f"studies.store={STORE}"]
    with install("hungry", release.namespace, CI_VALUES, sets=sets) as installed:
        yield installed


def restarts(release):
    return [
        (state["restartCount"], state.get("lastState", {}).get("terminated", {}).get("reason"))
        for pod in release.pods("worker")
        for state in pod["status"]["containerStatuses"]
    ]


def test_the_incident_ends_with_results_and_no_pod_is_killed_for_memory(hungry, typed, tmp_path):
    sizes = [*range(50, 650, 50), 1900]
    spec = study(
        tmp_path, "incident", HUNGRY, replicates=2, fixed={"seconds": 0.3}, grid={"megabytes": sizes}
    )
    done = typed("study", "submit", spec, "--release", hungry.name, "--watch")
    assert done.returncode == 3, done.stderr
    found = json.loads(typed("study", "status", "incident", "-o", "json").stdout)["summary"]
    assert (found["ok"], found["failed"], found["poisoned"]) == (24, 0, 2), found
    assert [reason["reason"] for reason in found["by_reason"]] == ["TaskOOM"]
    assert restarts(hungry) == [(0, None)] * 2


@pytest.mark.ci
def test_where_no_task_fits_the_verdict_works_when_pasted(hungry, typed, tmp_path):
    sizes = [1900, 1910, 1920, 1930, 1940]
    spec = study(tmp_path, "too-large", HUNGRY, grid={"megabytes": sizes})
    done = typed("study", "submit", spec, "--release", hungry.name, "--watch")
    assert done.returncode == 4, done.stderr
    values = re.search(r"^workers:\n  processes: 1\n  memoryPerProcess: .*$", done.stdout, re.MULTILINE)[0]
    (command,) = re.findall(r"mops-helm (upgrade .+ -f) FILE", done.stdout)
    (tmp_path / "more.yaml").write_text(values)
    upgraded = mops_helm(*command.split(), "more.yaml", cwd=tmp_path, timeout_seconds=LONG_SECONDS)
    assert upgraded.returncode == 0, upgraded.stderr
    again = typed("study", "submit", spec, "--release", hungry.name, "--watch")
    assert again.returncode == 0, again.stdout + again.stderr
    assert restarts(hungry) == [(0, None)] * 2
