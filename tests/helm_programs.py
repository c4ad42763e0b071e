"""The real helm programs that tests compare with: both majors, from the PATH or from .tools/bin."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "modelops-dask"
BOTH_HELMS = pytest.mark.parametrize("helm", ["helm", "helm3"])


def template(helm: str, chart: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`helm template`, whether it succeeds or not."""
    program = shutil.which(helm) or shutil.which(helm, path=ROOT / ".tools" / "bin")
    assert program, f"{helm} is needed: make tools"
    command = [program, "template", "probe", str(chart), "--kube-version", "1.34.0", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
