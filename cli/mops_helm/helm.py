"""The only caller of the helm program; supports Helm 3 and Helm 4.

helm's messages and exit statuses are not interpreted: its messages are passed on unchanged.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput, ClusterFailed
from mops_helm import paths

CHART = "modelops-dask"
KUBE_VERSION = "1.34.0"  # for rendering: the program's own version differs from build to build


class HelmMissing(ClusterFailed):
    """helm is not installed on this machine."""

    def __str__(self) -> str:
        return (
            "helm is not on the PATH. Install Helm 3.19 or newer (https://helm.sh/docs/intro/install), "
            "or, in a checkout, run: make tools"
        )


class HelmFailed(ClusterFailed):
    """helm ended with an error; str() is its message."""

    def __init__(self, arguments: Sequence[str], output: str) -> None:
        super().__init__(arguments, output)
        self.arguments = tuple(arguments)
        self.output = output

    def __str__(self) -> str:
        return f"helm {self.arguments[0]} failed:\n{self.output.strip()}"


class OtherChart(BadInput):
    """A release of another chart, possibly a platform team's own chart that contains this one."""

    def __init__(self, release: str, chart: str) -> None:
        super().__init__(release, chart)
        self.release = release
        self.chart = chart

    def __str__(self) -> str:
        return (
            f"Release {self.release} uses chart {self.chart}, whose values only helm can change. "
            f"mops-helm install, upgrade and status work only with releases of {CHART}."
        )


def find_program() -> str:
    """The path of helm: on the PATH, otherwise the one that `make tools` built in a checkout. Raises
    HelmMissing.
    """
    path = shutil.which("helm") or shutil.which("helm", path=paths.ROOT / ".tools" / "bin")
    if path is None:
        raise HelmMissing
    return path


def major() -> int:
    """3 or 4."""
    version = run(["version", "--template", "{{.Version}}"])
    return int(version.strip().lstrip("v").split(".")[0])


def run(arguments: Sequence[str], within_seconds: float | None = None) -> str:
    """The standard output of helm. Raises HelmFailed with its message, or if it took too long."""
    command = [find_program(), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=within_seconds)
    except subprocess.TimeoutExpired:
        raise HelmFailed(arguments, f"no answer within {within_seconds:g} s") from None
    if process.returncode != 0:
        raise HelmFailed(arguments, process.stderr or process.stdout)
    return process.stdout


@dataclass(frozen=True)
class ReleaseRef:
    """The location of a release: its name, its namespace, a context of the kubeconfig ("" is the current
    one).
    """

    release: str
    namespace: str
    context: str = ""

    @property
    def flags(self) -> list[str]:
        context = ["--kube-context", self.context] if self.context else []
        return ["--namespace", self.namespace, *context]

    def command_line(self, *arguments: str) -> str:
        """A helm command about the release, to paste."""
        return shlex.join(["helm", *self.flags, *arguments])


def values(place: ReleaseRef, *, with_defaults: bool = False) -> dict[str, Any] | None:
    """The values of a release, alone or with the chart's defaults; None: the release does not exist.

    Raises OtherChart.
    """
    states = ["--deployed", "--failed", "--pending", "--superseded"]
    filter_flags = ["--filter", f"^{re.escape(place.release)}$", "--output", "json"]
    releases = json.loads(run(["list", *states, *filter_flags, *place.flags]))
    if not releases:
        return None
    if not _is_of_this_chart(releases[0]):
        raise OtherChart(place.release, releases[0]["chart"])
    flags = ["--all"] if with_defaults else []
    return json.loads(run(["get", "values", place.release, "--output", "json", *flags, *place.flags])) or {}


def _is_of_this_chart(release: dict[str, Any]) -> bool:
    """Whether a release that helm lists is of this chart, in any version."""
    return bool(re.match(rf"{CHART}-\d", release["chart"]))


def only_release(within_seconds: float) -> ReleaseRef | None:
    """The release of this chart, if the cluster has just one and answers in time."""
    for scope in (["--all-namespaces"], []):  # users may lack the permission to read all namespaces
        try:
            releases = json.loads(run(["list", *scope, "--output", "json"], within_seconds))
        except HelmMissing:
            return None
        except HelmFailed:
            continue
        references = [
            ReleaseRef(release["name"], release["namespace"])
            for release in releases
            if _is_of_this_chart(release)
        ]
        return references[0] if len(references) == 1 else None
    return None


def manifest(place: ReleaseRef) -> str:
    """The manifests of an installed release, without hooks."""
    return run(["get", "manifest", place.release, *place.flags])


def render(place: ReleaseRef, values_file: Path, *, upgrade: bool) -> str:
    """The manifests that a release would have, without hooks; offline."""
    flags = ["--no-hooks", "--kube-version", KUBE_VERSION, *(["--is-upgrade"] if upgrade else [])]
    return run(
        ["template", place.release, str(paths.CHART), *place.flags, "--values", str(values_file), *flags]
    )


def send(verb: str, place: ReleaseRef, values_file: Path, flags: Sequence[str]) -> None:
    """Run `helm install` or `helm upgrade` with exactly these values."""
    reset = ["--reset-values"] if verb == "upgrade" else []
    run([verb, place.release, str(paths.CHART), *place.flags, "--values", str(values_file), *reset, *flags])


def template(release: str, values_files: Sequence[Path], sets: Sequence[str] = ()) -> str:
    """The chart's manifests as YAML, offline."""
    arguments = ["template", release, str(paths.CHART), "--kube-version", KUBE_VERSION]
    for path in values_files:
        arguments += ["--values", str(path)]
    for flag in sets:
        arguments += ["--set", flag]
    return run(arguments)
