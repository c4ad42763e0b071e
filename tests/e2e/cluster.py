"""The cluster of KUBECONFIG through the programs that a person uses: kubectl and both helms.

    values files -> install() -> Release -> kubectl, Python in the scheduler's pod -> objects and text

Raises AssertionError with the program's own words, and after an install with what the pods say. Does not
choose values: the tests do.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart.rendering import CHART, tool
from helpers import wait_for

CI_VALUES = CHART / "ci" / "small-values.yaml"
IMAGE = os.environ.get("IMAGE") or "localhost/modelops-dask:dev"
# Deadlines, not waits: a machine that runs other things too is a slow one.
START_SECONDS = 480
PATIENCE_SECONDS = 300

# What each worker process says of itself, asked for from inside the scheduler's pod.
_WORKERS = """
import json, sys
from distributed import Client

def described(dask_worker):
    runtime = getattr(dask_worker, "modelops", None)
    return runtime and {"executor": runtime.settings.executor_type, "preset": runtime.settings.preset}

with Client(sys.argv[1], timeout=120) as client:
    client.wait_for_workers(int(sys.argv[2]), timeout=240)
    facts = client.scheduler_info(n_workers=-1)["workers"]
    runtimes = client.run(described)
print(json.dumps([
    {"host": worker["host"], "threads": worker["nthreads"], "memory_limit": worker["memory_limit"],
     **(runtimes[address] or {})}
    for address, worker in facts.items()
]))
"""


def call(*command: str | Path, stdin: str | None = None, timeout_seconds: float = 600) -> str:
    """What a program prints; the test fails with its error if it does not end well."""
    done = subprocess.run(
        command, input=stdin, text=True, capture_output=True, timeout=timeout_seconds, check=False
    )
    said = f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    return done.stdout


def kubectl(*args: str | Path, stdin: str | None = None) -> str:
    """What kubectl prints."""
    program = shutil.which("kubectl")
    assert program, "kubectl is missing from the PATH"
    return call(program, *args, stdin=stdin)


@dataclass(frozen=True)
class Release:
    """An installed chart. Names of objects are those of a release that renames nothing."""

    name: str
    namespace: str
    helm: str

    def kubectl(self, *args: str | Path, stdin: str | None = None) -> str:
        """What kubectl prints, in the release's namespace."""
        return kubectl("--namespace", self.namespace, *args, stdin=stdin)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object of the cluster. `name` is a suffix: worker, scheduler."""
        return json.loads(self.kubectl("get", kind, f"{self.name}-{name}", "--output", "json"))

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Pods of `worker` or `scheduler` that are ready and not being deleted."""
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        found = json.loads(self.kubectl("get", "pods", "--selector", selector, "--output", "json"))["items"]
        ready = {"type": "Ready", "status": "True"}
        return [
            pod
            for pod in found
            if "deletionTimestamp" not in pod["metadata"]
            and any(ready.items() <= state.items() for state in pod["status"].get("conditions", ()))
        ]

    def upgrade(
        self,
        *values: Path,
        sets: Sequence[str] = (),
        chart: Path = CHART,
        flags: Sequence[str] = (),
        wait: bool = True,
    ) -> None:
        """Upgrade to these values, and no others, by the helm that installed it."""
        _helm("upgrade", self, chart, values, sets, flags, wait)

    def test(self) -> str:
        """What `helm test` says, with the log of its pod; the test fails with it if that is not green."""
        return call(*self.test_command())

    def test_command(self) -> list[str | Path]:
        """`helm test`, for who wants to see it fail."""
        limit = f"{START_SECONDS}s"
        return [
            tool(self.helm),
            "test",
            self.name,
            "--namespace",
            self.namespace,
            "--logs",
            "--timeout",
            limit,
        ]

    def python(self, code: str, *args: object) -> str:
        """What a Python program prints that runs in the scheduler's pod."""
        return self.kubectl(
            "exec",
            "--stdin",
            f"deploy/{self.name}-scheduler",
            "--",
            "python",
            "-",
            *map(str, args),
            stdin=code,
        )

    def workers(self, count: int) -> list[dict[str, Any]]:
        """The worker processes, once `count` are there: executor, preset, threads, memory_limit, host."""
        return json.loads(self.python(_WORKERS, f"tcp://{self.name}-scheduler:8786", count))


def image_sets() -> list[str]:
    """--set of the image that is tested."""
    repository, _, tag = IMAGE.rpartition(":")
    return [f"image.repository={repository}", f"image.tag={tag}", "image.pullPolicy=IfNotPresent"]


def _helm(
    verb: str,
    release: Release,
    chart: Path,
    values: Sequence[Path],
    sets: Sequence[str],
    flags: Sequence[str],
    wait: bool,
) -> None:
    command = [tool(release.helm), verb, release.name, chart, "--namespace", release.namespace, *flags]
    command += [word for path in values for word in ("--values", path)]
    command += [word for item in [*image_sets(), *sets] for word in ("--set", item)]
    if wait:
        command += ["--wait", "--timeout", f"{START_SECONDS}s"]
    try:
        call(*command, timeout_seconds=START_SECONDS + 30)
    except AssertionError as error:
        if not wait:
            raise
        raise AssertionError(f"{error}\n{_seen(release)}") from None


def _seen(release: Release) -> str:
    """What the cluster shows of a release, for the message of a failure: as much of it as can be had."""
    selector = f"app.kubernetes.io/instance={release.name}"
    said = []
    for command in (
        ("get", "pods", "--output", "wide"),
        ("get", "events", "--sort-by", ".lastTimestamp", "--output", "wide"),
        ("logs", "--selector", selector, "--prefix", "--tail", "20"),
    ):
        try:
            said.append(release.kubectl(*command))
        except AssertionError as error:  # a pod may be gone between its listing and its log
            said.append(str(error))
    return "\n".join(said)


@contextmanager
def install(
    name: str,
    namespace: str,
    *values: Path,
    helm: str = "helm",
    sets: Sequence[str] = (),
    chart: Path = CHART,
    wait: bool = True,
) -> Iterator[Release]:
    """A release of the chart with values files, later ones winning, that is gone at the end, its pods too."""
    release = Release(name, namespace, helm)
    try:
        _helm("install", release, chart, values, sets, (), wait)
        yield release
    finally:
        call(tool(helm), "uninstall", name, "--namespace", namespace, "--ignore-not-found")
        selector = f"app.kubernetes.io/instance={name}"
        # Two CPUs in all: the next release needs what these pods hold.
        release.kubectl("delete", "pods", "--selector", selector, "--grace-period", "1", "--wait")


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """wait_for, with the patience that a cluster needs."""
    return wait_for(condition, what, PATIENCE_SECONDS)
