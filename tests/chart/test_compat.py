"""What the chart gets along with: images that are not its own, and the oldest helms that are supported.

The oldest helms are built by `make tools-oldest`; without them their tests are skipped, and say so.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chart.rendering import (
    EXAMPLES,
    HELMS,
    PRESETS,
    ROOT,
    container,
    env,
    layers,
    one,
    pods,
    refusal,
    render,
    stated,
    text,
    title,
    workers,
)

EVERYTHING = Path(__file__).parent / "everything.yaml"
OLDEST = ["helm-oldest", "helm3-oldest"]  # 4.0.4 and 3.19.4
OFFICIAL = ROOT / "examples" / "values" / "official-dask-image.yaml"
MODELOPS = ROOT / "examples" / "values" / "modelops-worker-image.yaml"
both_helms = pytest.mark.parametrize("helm", HELMS)


@pytest.fixture(params=OLDEST)
def oldest(request) -> str:
    if not (shutil.which(request.param) or (ROOT / ".tools" / "bin" / request.param).exists()):
        pytest.skip(f"{request.param} is not built; make tools-oldest builds it")
    return request.param


def joined(rendered: str) -> str:
    """Without the empty line that the newest Helm 4 leaves between two objects of one template."""
    return rendered.replace("\n\n---\n", "\n---\n")


@pytest.mark.parametrize("case", [*PRESETS, *EXAMPLES, EVERYTHING], ids=lambda path: path.stem)
def test_the_oldest_helms_render_the_same_bytes(oldest, case):
    assert joined(text(oldest, "-f", case)) == joined(text("helm", "-f", case))


@pytest.mark.parametrize("case", [*EXAMPLES, EVERYTHING], ids=lambda path: path.stem)
def test_both_helms_render_the_same_bytes_of_pools_too(case):
    assert joined(text("helm3", "-f", case)) == joined(text("helm", "-f", case))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("workers.proceses=2", "additional properties 'proceses' not allowed"),
        ("pools.GPU.replicas=1", "at '/pools': additional properties 'GPU' not allowed"),
        ("workers.memoryPerProcess=4GB", "'4GB' does not match pattern"),
        ("workers.env.DASK_X=1", "workers.env.DASK_X: set dask.config instead"),
        ("preset=single-process", "at '/workers/processes': value must be 1"),
        ("workers.threads=null", "at '/workers': missing property 'threads'"),
    ],
)
def test_the_oldest_helms_refuse_in_the_same_words(oldest, change, expected):
    assert expected in refusal(oldest, "--set", change)


# Images of others


@both_helms
@pytest.mark.parametrize("image", [OFFICIAL, MODELOPS], ids=lambda path: path.stem)
def test_nothing_of_the_engine_is_asked_of_another_image(helm, image):
    for item, template in pods(render(helm, "-f", image)):
        assert "modelops_dask" not in str(template), title(item)
        assert container(item)["command"][0] == "dask", title(item)


@both_helms
def test_plain_dask_has_no_variables_of_ours(helm):
    objects = render(helm, "-f", OFFICIAL)
    for item, _ in pods(objects):
        assert set(env(item)) == {"DASK_CONFIG", "HOME"}, title(item)
        assert container(item)["image"] == "ghcr.io/dask/dask:2026.8.0-py3.12", title(item)


@both_helms
def test_modelops_own_image_finds_what_it_expects(helm):
    objects = render(helm, "-f", MODELOPS)
    worker = workers(objects)
    assert env(worker) == {
        "DASK_CONFIG": "/etc/dask",
        "HOME": "/tmp",
        "MODELOPS_BUNDLE_REGISTRY": "registry.example/models",
        "MODELOPS_EXECUTOR_TYPE": "isolated_warm",
        "MODELOPS_BUNDLES_CACHE_DIR": "/tmp/modelops/bundles",
        "MODELOPS_VENVS_DIR": "/tmp/modelops/venvs",
    }
    secrets = [source["secretRef"]["name"] for source in container(worker)["envFrom"]]
    assert secrets == ["bundle-credentials", "modelops-storage"]
    assert one(objects, "Service", "dask-scheduler")
    assert "tcp://dask-scheduler:8786" in container(worker)["command"]
    policy = one(objects, "NetworkPolicy", "study-scheduler")
    job_pods = {"podSelector": {"matchExpressions": [{"key": "job-name", "operator": "Exists"}]}}
    assert job_pods in policy["spec"]["ingress"][0]["from"]


@both_helms
def test_what_the_chart_sets_for_plain_dask_too_stays_its_own(helm, tmp_path):
    mine = {
        "executor": {"type": "none"},
        "workers": {"env": {"HOME": "/x", "DASK_A": "1", "MODELOPS_A": "1"}},
    }
    said = refusal(helm, *stated(mine, tmp_path / "mine.yaml"))
    assert "workers.env.HOME: the chart sets it" in said
    assert "workers.env.DASK_A: set dask.config instead" in said
    assert "MODELOPS_A" not in said


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_command_line_finds_nothing_to_say(example):
    command = [sys.executable, "-m", "mops_helm.main", "values", "check", example]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(": ok\n"), done.stdout


@both_helms
def test_an_isolation_preset_over_another_image_asks_for_the_engine_again(helm):
    """Why the documents say: not over these. The preset wins, and the preload is back."""
    objects = render(helm, *layers(OFFICIAL, ROOT / "values" / "cold.yaml"))
    assert "modelops_dask.worker" in container(workers(objects))["command"]
