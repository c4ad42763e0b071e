"""Check whether this machine has what the commands need: the state, the purpose, the advice.

    examine() -> [Check, ...] -> table() or forms.render_data()

Nothing is changed or installed, and no network is used. At the top only the standard library is imported,
because this command is for machines on which a package is missing.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from modelops_dask.errors import BadInput, MopsError
from modelops_dask.settings import Settings

GIB = 1024**3
MIN_PYTHON = (3, 11)
MIN_UV = "0.8"
MIN_HELM = "3.19"
MIN_FREE_GIB = 2  # an environment with starsim takes 0.7 GiB


@dataclass(frozen=True)
class Check:
    """One checked requirement. `advice` says what to do and is empty if the state is ok."""

    name: str
    state: Literal["ok", "missing", "too old", "wrong"]
    detail: str
    purpose: str
    advice: str = ""
    required: bool = True

    def as_json(self) -> dict[str, str | bool]:
        """The check in the form that `-o json` prints."""
        return {
            "name": self.name,
            "state": self.state,
            "found": self.detail,
            "purpose": self.purpose,
            "advice": self.advice,
            "required": self.required,
        }


def examine() -> list[Check]:
    """Every check, in the order in which a study needs them."""
    return [
        python(),
        *packages(),
        uv(),
        *pythons(),
        variables(),
        *caches(),
        machine(),
        processes(),
        executors(),
        helm(),
        kubectl(),
    ]


def healthy(checks: list[Check]) -> bool:
    """Whether everything that is required is ok."""
    return all(check.state == "ok" for check in checks if check.required)


def table(checks: list[Check]) -> str:
    """A line per check; below it, advice if it is not ok."""
    lines = []
    for check in checks:
        purpose = check.purpose if check.required else f"{check.purpose} (optional)"
        lines.append(f"{check.state:<8} {check.name:<13} {purpose:<36} {check.detail}".rstrip())
        if check.advice:
            lines.append(f"{'':<8} -> {check.advice}")
    return "\n".join(lines)


def python() -> Check:
    detail = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= MIN_PYTHON:
        return Check("Python", "ok", detail, "runs everything")
    return Check("Python", "too old", detail, "runs everything", "install Python 3.11 or newer")


def packages() -> Iterator[Check]:
    """A line for all packages with the required version, and one for each other package."""
    purpose, advice = "commands and studies", "python -m pip install --upgrade mops-helm"
    n_ok = 0
    for requirement in _requirements():
        match = re.match(r"([\w.-]+)(?:>=([\d.]+))?", requirement)
        assert match is not None, requirement  # each starts with a name
        name, least = match.groups()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, "missing", "", purpose, advice)
            continue
        if least and _number(version) < _number(least):
            yield Check(name, "too old", f"{version}, needs {least}", purpose, advice)
            continue
        n_ok += 1
        if name == "dask":
            yield dask(version)
    yield Check("packages", "ok", f"{n_ok} have the required version", purpose)


def _requirements() -> list[str]:
    """The requirements of every installation; extras are for the worker image."""
    return [text for text in metadata.requires("mops-helm") or [] if "extra ==" not in text]


def dask(version: str) -> Check:
    """dask and distributed must have the same version: other pairs fail with unrelated messages."""
    try:
        other = metadata.version("distributed")
    except metadata.PackageNotFoundError:
        other = "none"
    if other == version:
        return Check("Dask", "ok", version, "runs studies")
    advice = f"python -m pip install distributed=={version}"
    return Check("Dask", "wrong", f"{version} with distributed {other}", "runs studies", advice)


def uv() -> Check:
    purpose, advice = "builds a bundle's environment", "python -m pip install --upgrade uv"
    try:
        from uv import find_uv_bin

        version = _output(find_uv_bin(), "--version")
    except (ImportError, OSError):
        version = None
    if version is None:
        return Check("uv", "missing", "", purpose, advice)
    return _check_version("uv", version.removeprefix("uv "), MIN_UV, purpose, advice)


def pythons() -> Iterator[Check]:
    """The Pythons available for models that need another one than this."""
    try:
        from modelops_dask.environments.interpreters import list_installed

        versions = dict.fromkeys(each.version for each in list_installed(Path.cwd()))
    except (ImportError, MopsError):
        return  # packages() and uv() have reported it
    detail = ", ".join(versions) or "uv finds none"
    yield Check("Pythons", "ok", detail, "for models that need another", required=False)


def variables() -> Check:
    """MODELOPS_ variables of this shell, which affect workers started from it."""
    count = sum(name.startswith("MODELOPS_") for name in os.environ)
    purpose = "MODELOPS_ variables of this shell"
    try:
        Settings.from_env()
    except BadInput as error:
        return Check("variables", "wrong", f"{count} set", purpose, "; ".join(str(error).splitlines()))
    return Check("variables", "ok", f"{count} set" if count else "none set", purpose)


def caches() -> Iterator[Check]:
    try:
        settings = Settings.from_env()
    except BadInput:
        return  # variables() has reported it
    for name, purpose, folder in (
        ("bundles", "bundles that ran here", settings.bundles_cache_dir),
        ("environments", "environments of bundles", settings.venvs_dir),
    ):
        yield cache(name, purpose, folder)


def cache(name: str, purpose: str, folder: Path) -> Check:
    """Whether a file can be created in the folder, or in its nearest existing parent, and whether there is
    room.
    """
    variable = "MODELOPS_BUNDLES_CACHE_DIR" if name == "bundles" else "MODELOPS_VENVS_DIR"
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free_gib = shutil.disk_usage(existing).free / GIB
    except OSError as error:
        advice = f"{existing}: {error.strerror}; set {variable} to a folder that you own"
        return Check(name, "wrong", str(folder), purpose, advice)
    detail = f"{folder}, {free_gib:.0f} GiB free"
    if free_gib < MIN_FREE_GIB:
        return Check(name, "wrong", detail, purpose, f"free {MIN_FREE_GIB} GiB or set {variable}")
    return Check(name, "ok", detail, purpose)


def machine() -> Check:
    """The resources to which local studies are fitted: CPUs by affinity and quota, memory by cgroup."""
    purpose = "fits a study to this machine"
    try:
        from modelops_dask.workers import local

        cpus, memory_bytes = local.machine()
    except ImportError as error:
        return Check("machine", "missing", "", purpose, f"install {error.name}")
    return Check("machine", "ok", f"{cpus} CPUs, {memory_bytes / GIB:.1f} GiB", purpose)


def processes() -> Check:
    """Whether a worker for each CPU may start its processes and threads, in addition to running ones."""
    purpose = "processes and threads of workers"
    try:
        from modelops_dask.limits import process_count
        from modelops_dask.workers import local, process_room
    except ImportError as error:
        return Check("processes", "missing", "", purpose, f"install {error.name}")
    limit = process_count.tightest() if sys.platform == "linux" else None
    if limit is None:
        return Check("processes", "ok", "no limit", purpose)
    detail = f"{limit.room:,} more can run ({limit.source}: {limit.most:,})"
    shortage = process_room.check_here(local.machine()[0], 1, Settings(), {})
    return Check("processes", "wrong" if shortage else "ok", detail, purpose, shortage, required=False)


def executors() -> Check:
    """The executors that the platform supports; without procfs and cgroups there is no memory guard."""
    purpose = "isolation of tasks"
    if sys.platform == "linux":
        return Check("executors", "ok", "direct, isolated_warm, isolated_fork, cold", purpose)
    if sys.platform == "darwin":
        return Check("executors", "ok", "direct, isolated_warm, cold; no memory guard", purpose)
    return Check(
        "executors", "missing", sys.platform, purpose, "use WSL2: worker processes need Unix sockets"
    )


def helm() -> Check:
    from mops_helm import helm as program

    purpose, advice = "preset render, install", "install Helm 3 or 4; in a checkout: make tools"
    try:
        version = program.run(["version", "--template", "{{.Version}}"])
    except (MopsError, OSError):
        return Check("helm", "missing", "", purpose, advice, required=False)
    return _check_version("helm", version.removeprefix("v"), MIN_HELM, purpose, advice, required=False)


def kubectl() -> Check:
    purpose = "reading pods and logs"
    path = shutil.which("kubectl")
    version = _output(path, "version", "--client") if path else None
    if version is None:
        advice = "install kubectl to reach a cluster; local studies do not need it"
        return Check("kubectl", "missing", "", purpose, advice, required=False)
    number = re.search(r"v(\d+\.\d+\.\d+)", version)
    return Check("kubectl", "ok", number[1] if number else version, purpose, required=False)


def _check_version(
    name: str, version: str, least: str, purpose: str, advice: str, required: bool = True
) -> Check:
    """A check of an installed version: ok, or too old."""
    if _number(version) >= _number(least):
        return Check(name, "ok", version.partition(" ")[0], purpose, required=required)
    return Check(name, "too old", f"{version}, needs {least}", purpose, advice, required)


def _number(version: str) -> tuple[int, ...]:
    """The first three numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _output(*command: str) -> str | None:
    """The first line that a program prints; None if it cannot be run."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.partition("\n")[0].strip()
