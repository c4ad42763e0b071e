"""docs/chart.md is true: each values block renders with both helms to what the block under it says.

Marks: `yaml values`, `yaml parent chart` with `yaml parent values`, `yaml rendered` (lines of the rendering
before it), `yaml kubernetes` (objects for a platform team). tests/cli/test_docs.py checks the values as well.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from chart.rendering import CHART, HELMS, KUBE_VERSION, ROOT, text, tool
from chart.source import PROPERTIES

DOCUMENT = ROOT / "docs" / "chart.md"
DECISION_RECORD = ROOT / "docs" / "decision-record.md"
BLOCKS = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", DOCUMENT.read_text(), re.MULTILINE)
both_helms = pytest.mark.parametrize("helm", HELMS)


@dataclass(frozen=True)
class Promise:
    """Values and the lines they become; a parent's chart, if the values are a parent's."""

    values: str
    lines: tuple[str, ...]
    parent: str = ""

    def __str__(self) -> str:
        return self.lines[0]


def promises() -> list[Promise]:
    found, values, parent = [], "", ""
    for mark, content in BLOCKS:
        match mark:
            case "yaml values" | "yaml parent values":
                assert not values, f"nothing says what becomes of this:\n{values}"
                values = content
            case "yaml parent chart":
                parent = content
            case "yaml rendered":
                found.append(Promise(values, tuple(map(str.strip, content.splitlines())), parent))
                values = parent = ""
    assert not values, f"nothing says what becomes of this:\n{values}"
    return found


def vendored(helm: str, promise: Promise, folder: Path) -> str:
    """The rendering of a parent chart beside a copy of this one."""
    shutil.copytree(CHART, folder / "modelops-dask")
    platform = folder / "platform"
    platform.mkdir()
    (platform / "Chart.yaml").write_text(promise.parent)
    (platform / "values.yaml").write_text(promise.values)
    for command in (["dependency", "update"], ["template", "study", "--kube-version", KUBE_VERSION]):
        done = subprocess.run([tool(helm), *command, platform], text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
    return done.stdout


@both_helms
@pytest.mark.parametrize("promise", promises(), ids=str)
def test_values_become_what_the_document_says(helm, promise, tmp_path):
    if promise.parent:
        rendered = vendored(helm, promise, tmp_path)
    else:
        (tmp_path / "values.yaml").write_text(promise.values)
        rendered = text(helm, "-f", tmp_path / "values.yaml")
    lines = [line.strip() for line in rendered.splitlines()]
    before = [line.strip() for line in text(helm).splitlines()]
    for line in promise.lines:
        assert line in {rendered_line.removeprefix("- ") for rendered_line in lines} | set(lines)
    assert not set(promise.lines) <= set(before), "the defaults say as much"


@pytest.mark.parametrize("content", [content for mark, content in BLOCKS if mark == "yaml kubernetes"])
@pytest.mark.parametrize("version", ["1.25", "1.34", "1.37"])
def test_kubernetes_takes_the_objects_for_the_platform(content, version):
    kubernetes_validate.validate(yaml.safe_load(content), version, strict=True)


def test_every_value_that_the_document_names_exists():
    roots = {path.partition(".")[0] for path in PROPERTIES}
    pages = DOCUMENT.read_text() + DECISION_RECORD.read_text()
    named = re.findall(r"`([a-z]\w*(?:\.\w+)+)`", pages)
    wanted = {name for name in named if name.partition(".")[0] in roots}
    assert len(wanted) > 20
    assert not wanted - set(PROPERTIES) - {"pools.default"}


def test_every_example_of_values_is_named():
    said = DOCUMENT.read_text()
    examples = sorted((ROOT / "examples" / "values").glob("*.yaml"))
    assert examples
    assert [path.name for path in examples if path.name not in said] == []
