"""A worker pod is deleted amid a study of long tasks; the release's own contract makes its driver."""

import json
import secrets
import subprocess

import pytest

from e2e.cluster import CI_VALUES, eventually
from e2e.driver import driver_job
from e2e.volumes import shared_volume

TASKS, SECONDS = 5, 10
PLACE = f"/shared/{secrets.token_hex(4)}"  # the volume may have been another test's before

MODEL = f"""
import os, pathlib, socket, time, uuid

def wire(entrypoint, params, seed):
    began = pathlib.Path("{PLACE}/ran") / f"{{params['x']}}-{{uuid.uuid4().hex}}"
    began.write_text(socket.gethostname())
    time.sleep({SECONDS})
    return {{"y": str(params["x"]).encode()}}
"""
STUDY = {"name": "slow", "entrypoint": "models.slow/any", "grid": {"x": list(range(TASKS))}, "fixed": {}}

# The driver: puts the model where workers see it, tries what its token allows, and runs the study.
DRIVER = f"""
import json, os, pathlib, ssl, subprocess, sys, urllib.request

shared = pathlib.Path("{PLACE}")
for name in ("model", "ran"):
    (shared / name).mkdir(parents=True, exist_ok=True)  # a driver that is lost is tried again
(shared / "model" / "wire.py").write_text({MODEL!r})
(shared / "model" / "study.yaml").write_text({json.dumps(STUDY)!r})

token = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
host = "https://" + os.environ["KUBERNETES_SERVICE_HOST"] + ":" + os.environ["KUBERNETES_SERVICE_PORT"]
namespace = (token / "namespace").read_text()

def ask(verb, path, body=None):
    headers = {{"Authorization": "Bearer " + (token / "token").read_text()}}
    headers["Content-Type"] = "application/merge-patch+json"
    asked = urllib.request.Request(host + path, body and json.dumps(body).encode(), headers, method=verb)
    trust = ssl.create_default_context(cafile=token / "ca.crt")
    try:
        return urllib.request.urlopen(asked, timeout=30, context=trust).status
    except urllib.error.HTTPError as error:
        return error.code

jobs = f"/apis/batch/v1/namespaces/{{namespace}}/jobs"
said = {{
    "pods": ask("GET", f"/api/v1/namespaces/{{namespace}}/pods"),
    "own job": ask("PATCH", f"{{jobs}}/slow", {{"metadata": {{"annotations": {{"example.org/done": "0"}}}}}}),
    "jobs": ask("GET", jobs),
    "end a job": ask("DELETE", f"{{jobs}}/slow"),
    "secrets": ask("GET", f"/api/v1/namespaces/{{namespace}}/secrets"),
}}
print(json.dumps(said), flush=True)
where = ["--store", shared / "out", "--check", "0", "-d", sys.argv[1]]  # a check runs tasks twice
env = os.environ | {{"MODELOPS_BUNDLES_CACHE_DIR": "{PLACE}/bundles", "XDG_CACHE_HOME": "{PLACE}/cache"}}
run = subprocess.run(["mops-helm", "study", "run", shared / "model" / "study.yaml", *where], env=env)
sys.exit(run.returncode)
"""


@pytest.fixture
def spread(release):
    """Two workers, and a volume that they share with drivers."""
    sets = [
        "workers.replicas=2,workers.processes=1",
        "executor.environment=image",
        "sharedVolume.enabled=true,sharedVolume.size=10Gi",
        "studies.store=/shared/out",
        "studies.driver.resources.requests.cpu=50m",
    ]
    with shared_volume(release("study", CI_VALUES, sets=sets)) as installed:
        yield installed


@pytest.mark.ci
def test_a_deleted_worker_pod_finishes_its_tasks_and_nothing_runs_twice(spread):
    job = driver_job(spread, "slow", ["python", "-c", DRIVER])
    spread.kubectl("apply", "--filename", "-", stdin=json.dumps(job))
    pods = [pod["metadata"]["name"] for pod in spread.pods("worker")]
    try:
        eventually(lambda: len(ran(spread)) >= 2 or ended(spread, "slow"), "two tasks that run")
        assert not ended(spread, "slow"), spread.kubectl("logs", "job/slow")
        deleted = ran(spread)[0][1]
        assert deleted in pods
        follow = subprocess.Popen(
            ["kubectl", "--namespace", spread.namespace, "logs", "--follow", deleted],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        spread.kubectl("delete", "pod", deleted, "--wait=false")
        done = eventually(lambda: ended(spread, "slow"), "end of the driver")
        said = spread.kubectl("logs", "job/slow")
        log, _ = follow.communicate(timeout=300)
    finally:
        spread.kubectl("delete", "job", "slow")
    assert done == "Complete", said
    tasks = sorted(x for x, _ in ran(spread))
    assert tasks == list(range(TASKS)), f"a task ran twice or never\n{log}"
    assert "ModelOps drain: 1 worker processes accept no more tasks and finish their running ones" in log
    assert "ModelOps drain: done after" in log
    access = json.loads(said.splitlines()[0])
    assert access == {"pods": 200, "own job": 200, "jobs": 403, "end a job": 403, "secrets": 403}


def ran(spread) -> list[tuple[int, str]]:
    """Each beginning of a task: its x, and the pod."""
    program = f"import pathlib\nfor p in pathlib.Path('{PLACE}/ran').glob('*'): print(p.name, p.read_text())"
    worker, *_ = eventually(lambda: spread.pods("worker"), "a worker that is ready")
    out = spread.kubectl("exec", worker["metadata"]["name"], "--", "python", "-c", program)
    lines = [line.split() for line in out.splitlines()]
    return sorted((int(line[0].partition("-")[0]), line[1]) for line in lines if len(line) == 2)


def ended(spread, job: str) -> str:
    """Complete or Failed, once the Job is."""
    found = json.loads(spread.kubectl("get", "job", job, "--output", "json"))
    states = found["status"].get("conditions", [])
    return next((state["type"] for state in states if state["type"] in ("Complete", "Failed")), "")
