"""The lock files pin every dependency that pyproject.toml asks for, within its bounds, with hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, str]:
    """package -> version; a package pinned differently by platform keeps the last."""
    text = (ROOT / name).read_text()
    assert "--hash=sha256:" in text
    return {
        canonicalize_name(m[1]): m[2]
        for m in re.finditer(r"^([\w.\-]+)(?:\[[^\]]*\])?==([^\s;]+)", text, re.M)
    }


@pytest.mark.parametrize(
    "lock, wanted",
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements-image.lock", PROJECT["project"]["dependencies"]),
        ("requirements-image.lock", PROJECT["project"]["optional-dependencies"]["image"]),
        ("requirements-image.lock", PROJECT["project"]["optional-dependencies"]["s3"]),
        ("requirements-dev.lock", PROJECT["dependency-groups"]["dev"]),
        ("requirements-bench.lock", PROJECT["dependency-groups"]["bench"]),
        ("requirements-scan.lock", PROJECT["dependency-groups"]["scan"]),
    ],
)
def test_every_dependency_is_locked_within_its_bounds(lock, wanted):
    locked = pins(lock)
    for line in wanted:
        requirement = Requirement(line)
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{lock} lacks {requirement.name}: run `make lock`"
        assert requirement.specifier.contains(version), f"{lock} has {requirement.name} {version}, not {line}"


@pytest.mark.parametrize(
    "lock", ["requirements-image.lock", "requirements-dev.lock", "requirements-bench.lock"]
)
def test_the_lock_files_agree(lock):
    runtime, other = pins("requirements.lock"), pins(lock)
    assert {
        name: (runtime[name], other[name])
        for name in runtime.keys() & other.keys()
        if runtime[name] != other[name]
    } == {}
