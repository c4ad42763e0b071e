"""What no file in git may hold: places and hosts of the machines where it was written."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# In pieces, so that this file passes its own test.
HOSTS = [
    "pypi" + r"\.org",
    "python" + "hosted",
    "proxy" + r"\.golang",
    "sum" + r"\.golang",
    "registry" + r"\.npmjs",
]
PATHS = [
    r"(?<![\w.-])/" + "work" + "/",
    r"(?<![\w.-])/" + "root" + "/",
    r"(?<![\w.-])/" + "home" + r"/(?!USER)\w",
]


def files_in_git() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_registry_host_and_no_path_of_a_machine():
    pattern = re.compile("|".join(HOSTS + PATHS))
    found = []
    for path in files_in_git():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def test_no_binary_file_but_small_pictures_of_the_docs():
    binaries = [path for path in files_in_git() if b"\0" in path.read_bytes()]
    pictures = [
        path for path in binaries if path.parent == ROOT / "docs" / "images" and path.suffix == ".png"
    ]
    assert [str(path.relative_to(ROOT)) for path in binaries if path not in pictures] == []
    assert [path.name for path in pictures if path.stat().st_size > 200 * 1024] == []
