"""Studies in the cluster as a person meets them: submit, list, status, results, verify, report, cancel."""

import json
import secrets
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from chart.rendering import CHART
from e2e.cluster import CI_VALUES, eventually, install
from e2e.volumes import shared_volume
from study_helpers import KNOBS, finish, mops_helm, start

SIR = CHART.parents[1] / "examples" / "sir"
STORE = f"/shared/{secrets.token_hex(4)}"  # the volume may have been another test's before
SMALL = ["workers.processes=1", "executor.environment=image", "studies.driver.resources.requests.cpu=50m"]
LONG_SECONDS = 420


@pytest.fixture(scope="module")
def release(namespace, s3):
    """A worker, a volume for stores, and the credentials of a bucket."""
    shared = ["sharedVolume.enabled=true,sharedVolume.size=10Gi", f"studies.store={STORE}"]
    sets = [*SMALL, *shared, "studies.maxActive=1", f"envFromSecrets={{{s3.secret}}}"]
    with shared_volume(install("study", namespace, CI_VALUES, sets=sets)) as installed:
        yield installed


@pytest.fixture
def typed(release, tmp_path):
    """typed(verb, word, ...): the end of `mops-helm study VERB WORDS -n NAMESPACE`."""

    def run(verb, *words):
        where = ("-n", release.namespace)
        return mops_helm("study", verb, *words, *where, cwd=tmp_path, timeout_seconds=LONG_SECONDS)

    return run


def sir(folder, name):
    """12 tasks of the example."""
    path = folder / f"{name}.yaml"
    spec = {"name": name, "model": "models.sir.simulate", "scenario": "baseline", "bundle": str(SIR)}
    path.write_text(
        json.dumps({**spec, "replicates": 3, "grid": {"r0": [1.5, 3], "infectious_days": [3, 6]}})
    )
    return path


def waiting(folder, name, until):
    """Two tasks that end when there is a file."""
    path = folder / f"{name}.yaml"
    spec = {"name": name, "entrypoint": "knobs.wire/any", "bundle": str(KNOBS), "fixed": {"until": until}}
    path.write_text(json.dumps({**spec, "grid": {"x": [1, 2]}}))
    return path


@pytest.mark.ci
@pytest.mark.parametrize(("chunks", "store"), [(0, ""), (2, "s3")], ids=["volume", "s3-chunks"])
def test_a_study_in_the_cluster_has_the_results_of_this_machine(
    typed, release, s3, tmp_path, monkeypatch, chunks, store
):
    spec = sir(tmp_path, f"sir-{chunks}")
    how = ["--chunks", chunks] if chunks else []
    how += ["--store", f"{s3.url}/sir"] if store else []
    done = typed("submit", spec, "--release", release.name, *how, "--watch")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout and "12" in done.stdout

    here = ["--set", "workers.replicas=1,workers.processes=1,executor.environment=image", "--store", "here"]
    assert mops_helm("study", "run", spec, *here, cwd=tmp_path, timeout_seconds=300).returncode == 0
    name = spec.stem
    for table in ("summary", "incidence"):
        there = typed("results", name, "--output", table, "--to", "csv")
        assert there.returncode == 0, there.stderr
        local = mops_helm("study", "results", "here", "--output", table, "--to", "csv", cwd=tmp_path)
        assert there.stdout == local.stdout and there.stdout.count("\n") > 12

    checked = typed("verify", name, "--sample", "1")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "Nothing is wrong."), checked.stderr
    page = typed("report", name, "--to", "sir.html")
    assert page.returncode == 0 and "</html>" in (tmp_path / "sir.html").read_text()

    found = json.loads(typed("status", name, "-o", "json").stdout)
    assert (found["state"], found["exit_code"], found["chunks"]) == ("succeeded", 0, chunks)
    assert (found["summary"]["ok"], found["summary"]["total"]) == (12, 12)
    assert found["progress"]["done"] == 12
    assert not [line for line in pods(release) if "-read-" in line], "pods that read are removed"
    if store:  # a laptop that reaches the bucket needs no pod, nor the model beside it
        with s3.reached() as variables:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            direct = [found["store"], "--sample", "1", "--set", "executor.environment=image"]
            done = mops_helm("study", "verify", *direct, cwd=tmp_path, timeout_seconds=LONG_SECONDS)
            assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Nothing is wrong."), done.stderr


@pytest.mark.ci
def test_submitted_twice_at_once_cancelled_and_gone_on_with(typed, release, tmp_path):
    go = f"{STORE}-go"
    spec = waiting(tmp_path, "waits", go)
    submit = ("submit", spec, "--release", release.name)
    with ThreadPoolExecutor(2) as two:
        both = [end.result() for end in [two.submit(typed, *submit) for _ in range(2)]]
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    assert len({done.stdout for done in both}) == 1, "one Job"
    said = sorted("is already running" in done.stderr for done in both)
    assert said == [False, True]
    running = eventually(lambda: in_state(typed, "waits", "running"), "a study that runs")
    assert running["store"].startswith(f"{STORE}/waits-")

    more = typed("submit", waiting(tmp_path, "more", go), "--release", release.name)
    assert more.returncode == 2 and "at most 1 studies at a time (studies.maxActive" in more.stderr
    assert running["job"] in more.stderr and "more" not in typed("list").stdout

    watching = start("study", "status", "waits", "-n", release.namespace, "--watch", cwd=tmp_path)
    assert watching.stderr.readline(), "a phase"
    watching.send_signal(signal.SIGINT)
    left = finish(watching)
    assert left.returncode == 130 and "The study continues in the cluster" in left.stderr
    assert in_state(typed, "waits", "running")

    assert typed("cancel", "waits").returncode == 0
    release.kubectl("exec", release.pods("worker")[0]["metadata"]["name"], "--", "touch", go)
    ended = eventually(lambda: in_state(typed, "waits", "cancelled", ended=True), "a study that is cancelled")
    assert ended["exit_code"] == 130
    done = typed(*submit, "--watch")
    assert done.returncode == 0, done.stderr
    assert "it continues in" in done.stderr
    assert typed("verify", "waits").stdout.startswith(f"{ended['store']}: 2 ok;")


def test_what_stops_a_submission_is_said_before_anything_is_created(typed, release, tmp_path):
    submit = ("submit", waiting(tmp_path, "refused", "/nowhere"), "--release")
    unknown = typed(*submit, "studi")
    assert unknown.returncode == 2
    assert "Release studi does not exist" in unknown.stderr and "accept studies: study" in unknown.stderr
    release.kubectl("create", "quota", "tight", "--hard=pods=1")
    try:
        counted = ("get", "quota", "tight", "--output", "jsonpath={.status.used.pods}")
        eventually(lambda: release.kubectl(*counted), "a count of pods")
        full = typed(*submit, "study")
    finally:
        release.kubectl("delete", "quota", "tight")
    assert full.returncode == 5 and "exceeded quota: tight" in full.stderr
    assert "refused" not in typed("list").stdout


@pytest.mark.parametrize(
    ("sets", "code", "said"),
    [
        ("studies.store=s3://nowhere/at-all", "ImagePull", "cannot be pulled"),
        (
            f"studies.store={STORE},sharedVolume.enabled=true,sharedVolume.storageClassName=nothing",
            "Unschedulable",
            "the volume of claim stuck-shared is missing",
        ),
    ],
    ids=["image", "volume"],
)
def test_a_study_that_cannot_start_says_why(typed, namespace, tmp_path, sets, code, said):
    sets = [*SMALL, sets, "image.tag=missing", "studies.kueue.queueName=epi"]
    with install("stuck", namespace, CI_VALUES, sets=sets, wait=False) as stuck:
        spec = waiting(tmp_path, f"stuck-{code.lower()}", "/nowhere")
        job = typed("submit", spec, "--release", "stuck").stdout.strip()
        found = eventually(lambda: in_the_way(typed, spec.stem, said), said)
        assert code in found["code"] and found["command"]

        labels = json.loads(stuck.kubectl("get", "job", job, "--output", "json"))["metadata"]["labels"]
        assert labels["kueue.x-k8s.io/queue-name"] == "epi"
        queued = "it is waiting for its queue to admit it"
        stuck.kubectl("patch", "job", job, "--patch", '{"spec": {"suspend": true}}')  # as Kueue does
        assert in_the_way(typed, spec.stem, queued)
        stuck.kubectl("patch", "job", job, "--patch", '{"spec": {"suspend": false}}')
        assert not in_the_way(typed, spec.stem, queued)
        assert typed("cancel", spec.stem).returncode == 0
        eventually(lambda: in_state(typed, spec.stem, "cancelled", ended=True), "a study that is cancelled")


def quick(folder, x, **fixed):
    """A study named `twice` of one parameter set; another x is another request of the same store."""
    path = folder / "twice.yaml"
    spec = {"name": "twice", "entrypoint": "knobs.wire/any", "bundle": str(KNOBS), "fixed": fixed}
    path.write_text(json.dumps({**spec, "grid": {"x": x}}))
    return path


def test_each_job_has_the_results_of_its_own_tasks(typed, release, tmp_path):
    submitted = []
    for x in ([1], [2, 3]):
        done = typed("submit", quick(tmp_path, x), "--release", release.name, "--watch")
        assert done.returncode == 0, done.stderr
        submitted.append(json.loads(typed("status", job_of(done), "-o", "json").stdout))
    assert submitted[0]["store"] == submitted[1]["store"]
    for job, x in zip(submitted, (["1"], ["2", "3"]), strict=True):
        table = typed("results", job["job"], "--output", "y", "--to", "csv")
        assert table.returncode == 0, table.stderr
        head, *rows = (line.replace('"', "").split(",") for line in table.stdout.splitlines())
        assert [row[head.index("param_x")] for row in rows] == x
        checked = typed("verify", job["job"])
        assert checked.returncode == 0 and f": {len(x)} ok;" in checked.stdout, checked.stdout


def test_a_study_that_ended_by_an_error_does_not_break_the_list(typed, release, tmp_path):
    spec = quick(tmp_path, list(range(60)), rests=1)
    assert typed("submit", spec, "--release", release.name).returncode == 0
    newest = json.loads(typed("list", "-o", "json").stdout)[0]
    eventually(lambda: in_state(typed, newest["job"], "running"), "a study that runs")
    eventually(lambda: (progress_of(typed, newest["job"]) or {}).get("done"), "tasks that are done")
    worker = release.pods("worker")[0]["metadata"]["name"]
    release.kubectl("exec", worker, "--", "chmod", "500", f"{newest['store']}/parts")
    try:
        ended = eventually(lambda: in_state(typed, newest["job"], "failed", ended=True), "a verdict")
    finally:
        release.kubectl("exec", worker, "--", "chmod", "700", f"{newest['store']}/parts")
    assert ended["exit_code"] == 4 and ended["summary"]["pending"] > 0
    listed = typed("list")
    assert listed.returncode == 0 and newest["job"] in listed.stdout, listed.stderr
    shown = mops_helm(
        "status", release.name, "-n", release.namespace, cwd=tmp_path, timeout_seconds=LONG_SECONDS
    )
    assert newest["job"] in shown.stdout, shown.stderr


def job_of(done):
    """The Job that `submit --watch` followed."""
    return next(line.split()[2].rstrip(";") for line in done.stderr.splitlines() if "ubmitted" in line)


def progress_of(typed, job):
    return json.loads(typed("status", job, "-o", "json").stdout)["progress"]


def in_the_way(typed, name, said):
    """The reason whose message says that, once there is one."""
    found = json.loads(typed("status", name, "-o", "json").stdout)["in_the_way"]
    return next((reason for reason in found if said in reason["message"]), None)


def in_state(typed, name, state, **also):
    """What `status -o json` says, once that is the state."""
    found = json.loads(typed("status", name, "-o", "json").stdout)
    fits = found["state"] == state and all(found[key] == value for key, value in also.items())
    return found if fits else None


def pods(release):
    return release.kubectl("get", "pods", "--output", "name").splitlines()
