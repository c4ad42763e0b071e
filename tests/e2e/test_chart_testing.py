"""ct install: the chart with each values file of its ci folder becomes ready, and `helm test` passes."""

import os
from pathlib import Path

from chart.rendering import CHART, ROOT, tool
from e2e.cluster import START_SECONDS, call, image_sets


def test_ct_installs_every_ci_file(namespace, monkeypatch):
    # ct calls helm and kubectl by name.
    monkeypatch.setenv("PATH", f"{Path(tool('helm')).parent}{os.pathsep}{os.environ['PATH']}")
    said = call(
        tool("ct"),
        "install",
        "--config",
        ROOT / "ct.yaml",
        "--charts",
        CHART.relative_to(ROOT),
        "--namespace",
        namespace,
        f"--helm-extra-args=--timeout {START_SECONDS}s",
        f"--helm-extra-set-args={' '.join(f'--set={item}' for item in image_sets())}",
        timeout_seconds=900,
    )
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    assert files
    for path in files:
        assert f'Installing chart with values file "{path.relative_to(ROOT)}"' in said
