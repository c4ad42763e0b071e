"""Every MODELOPS_ variable, read once and typed.

The names and defaults are those of schemas/values.schema.yaml (`x-env`); a test compares them. A variable of
ModelOps that has no effect here, or looks like a misspelling, is reported.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from modelops_dask.errors import BadInput
from modelops_dask.shape import MIB

T = TypeVar("T")

EXECUTOR_TYPES = ("isolated_warm", "isolated_fork", "cold", "direct", "none")
ENVIRONMENTS = ("bundle", "image")
PYTHON_VERSION = re.compile(r"(3\.(9|[1-9][0-9])(\.[0-9]{1,3})?)?")

# Variables of ModelOps that are not used here, with their replacements.
ELSEWHERE = {
    "MODELOPS_BUNDLE_SOURCE": "the bundle's reference is its location: folder, URL, HOST/REPOSITORY@sha256:…",
    "MODELOPS_STORAGE_DIR": "results go to the study's store: --store of study run",
    "MODELOPS_INLINE_ARTIFACT_MAX_BYTES": "results of any size go to the study's store",
    "MODELOPS_MEM_LIMIT_BYTES": "limits follow from workers.memoryPerProcess, --memory-limit of dask worker",
}
ALIKE = 0.8  # similarity, as difflib measures it, above which a name is taken for a misspelling


def _cache_dir(name: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "modelops-dask" / name


def _setting(env: str, default: T) -> T:
    """A field of Settings that is read from the variable MODELOPS_<env>."""
    return field(default=default, metadata={"env": f"MODELOPS_{env}"})


def _folder_setting(env: str, name: str) -> Path:
    """A folder in the user's cache, unless the variable MODELOPS_<env> names another."""
    return field(default_factory=lambda: _cache_dir(name), metadata={"env": f"MODELOPS_{env}"})


@dataclass(frozen=True)
class Settings:
    """How one Dask worker process executes tasks. Names include units."""

    preset: str = _setting("PRESET", "")
    executor_type: str = _setting("EXECUTOR_TYPE", "isolated_warm")
    executor_environment: str = _setting("EXECUTOR_ENVIRONMENT", "bundle")
    executor_python: str = _setting("PYTHON_VERSION", "")
    python_downloads: bool = _setting("PYTHON_DOWNLOADS", False)
    worker_memory_bytes: int = _setting("WORKER_MEMORY_BYTES", 160 * MIB)
    max_warm_processes: int = _setting("MAX_WARM_PROCESSES", 128)
    subprocess_pool_size: int = _setting("SUBPROCESS_POOL_SIZE", 0)
    max_process_reuse: int = _setting("MAX_PROCESS_REUSE", 1000)
    process_ttl_seconds: int = _setting("PROCESS_TTL", 3600)
    force_fresh_venv: bool = _setting("FORCE_FRESH_VENV", False)
    validate_deps: bool = _setting("VALIDATE_DEPS", True)
    private_files: bool = _setting("PRIVATE_FILES", True)
    task_timeout_seconds: int = _setting("RPC_TIMEOUT_SECONDS", 300)
    # not a value of the chart: switched off only for diagnosis
    seed_globals: bool = _setting("SEED_GLOBALS", True)
    scratch_bytes: int = _setting("SCRATCH_BYTES", 8192 * MIB)  # in a pod: its workers.scratch.sizeLimit
    bundles_cache_dir: Path = _folder_setting("BUNDLES_CACHE_DIR", "bundles")
    venvs_dir: Path = _folder_setting("VENVS_DIR", "venvs")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read settings from MODELOPS_ variables.

        Raises:
            BadInput: Lists every variable that cannot be read or has no effect here.
        """
        values: dict[str, Any] = {}
        problems = _find_without_effect(environ, [item.metadata["env"] for item in fields(cls)])
        for item in fields(cls):
            name = item.metadata["env"]
            if (text := environ.get(name)) is None:
                continue
            try:
                values[item.name] = _parse(item.type, text)
            except ValueError as error:
                problems.append(f"{name}={text!r}: {error}")
        for name, allowed in (("executor_type", EXECUTOR_TYPES), ("executor_environment", ENVIRONMENTS)):
            if name in values and values[name] not in allowed:
                variable = cls.__dataclass_fields__[name].metadata["env"]
                problems.append(f"{variable}={values[name]!r}: expected one of {', '.join(allowed)}")
        if not PYTHON_VERSION.fullmatch(python := values.get("executor_python", "")):
            problems.append(
                f"MODELOPS_PYTHON_VERSION={python!r}: expected 3.9 or newer, such as 3.12 or 3.12.4"
            )
        if problems:
            raise BadInput("\n".join(problems))
        return cls(**values)

    @property
    def builds_environment(self) -> bool:
        """Whether models run in an environment that is built for their bundle."""
        return self.executor_type != "direct" and self.executor_environment == "bundle"

    def to_env(self) -> dict[str, str]:
        """The variables from which from_env() reads these settings."""
        return {item.metadata["env"]: _text(getattr(self, item.name)) for item in fields(self)}


def _find_without_effect(environ: Mapping[str, str], names: list[str]) -> list[str]:
    """Problems with variables that have no effect.

    Other variables are ignored: a Service called modelops-dask, for example, sets
    "MODELOPS_DASK_SERVICE_HOST".
    """
    problems = [f"{name}: not used; {ELSEWHERE[name]}" for name in ELSEWHERE if name in environ]
    for name in environ:
        if name.startswith("MODELOPS_") and name not in {*names, *ELSEWHERE}:
            problems += [
                f"{name}: did you mean {near}?" for near in difflib.get_close_matches(name, names, 1, ALIKE)
            ]
    return problems


def _parse(kind: object, text: str) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError("expected true or false")
        return text.lower() in ("true", "1")
    if kind is int:
        if not text.isascii() or not text.isdigit():
            raise ValueError("expected a whole number, 0 or more")
        return int(text)
    if kind is Path:
        return Path(text).expanduser()
    return text


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
