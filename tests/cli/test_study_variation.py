"""Models whose chance does not come from the seed: what `study run` and `study status` report."""

import html
import json
import re

import pytest

from modelops_dask.store import parts
from modelops_dask.store.files import Store
from study_helpers import SMALL, mops_helm

SAME = "Warning: replicates are equal"
STATED = "the study file states deterministic: true, but replicates differ in"
MODELS = {
    "constant": "value = params['x']",
    "seed unused": "value = 3 + random.Random(2024).random()",
    "drawn": "import random; value = random.Random(seed).random()",
}
WIRE = """
import json, random
def wire(entrypoint, params, seed):
    {model}
    return {{"y": json.dumps([value]).encode(), "metadata": json.dumps({{"seed": seed}}).encode()}}
"""


@pytest.fixture
def run(tmp_path):
    def run(model: str, **study: object):
        """`study run` under `cold`, and what `study status` says afterwards."""
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "wire.py").write_text(WIRE.format(model=MODELS[model]))
        content = {"entrypoint": "m.f/s", "bundle": "model", "replicates": 3, "grid": {"x": [1, 2, 3]}}
        (tmp_path / "study.yaml").write_text(json.dumps({**content, "name": "s", **study}))
        done = mops_helm("study", "run", "study.yaml", *SMALL, "--set", "executor.type=cold", cwd=tmp_path)
        status = mops_helm("study", "status", "out/s", "-o", "json", cwd=tmp_path)
        assert done.returncode == status.returncode == 0, done.stderr
        variation = json.loads(status.stdout)["variation"]
        assert (variation in done.stdout) if variation else ("Warning" not in done.stdout)
        verified = mops_helm("study", "verify", "out/s", cwd=tmp_path)
        mops_helm("study", "report", "out/s", "--to", "page.html", cwd=tmp_path)
        page = html.unescape((tmp_path / "page.html").read_text())
        assert verified.returncode == 0, verified.stdout
        if variation:
            assert "Nothing is wrong" not in verified.stdout and variation[:30] in verified.stdout
            assert variation in page
        else:
            assert "Nothing is wrong" in verified.stdout and "Warning" not in page
        return variation

    return run


@pytest.mark.parametrize("model", ["constant", "seed unused"])
def test_equal_replicates_are_reported_with_what_to_do(run, model):
    variation = run(model)
    assert variation.startswith(SAME) and "Each of 3 parameter sets has the same metadata, y" in variation
    assert "deterministic: true" in variation


def test_a_model_that_draws_from_its_seed_is_not_warned_of(run):
    assert run("drawn") == ""


def test_a_model_that_is_meant_to_have_no_chance_is_not_warned_of(run):
    assert run("constant", deterministic=True) == ""


def test_a_model_that_has_chance_against_what_is_stated_is_reported(run):
    assert f"{STATED} y" in run("drawn", deterministic=True)


def test_outputs_that_vary_by_themselves_are_not_compared(run):
    assert run("drawn", deterministic=True, volatile=["y"]) == ""


THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(1e6,), daemon=True, name="heartbeat").start()
def wire(entrypoint, params, seed):
    return {"x": str(seed).encode()}
"""


def test_a_fork_that_becomes_a_new_interpreter_is_reported_with_its_cause(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wire.py").write_text(THREAD)
    content = {"name": "s", "entrypoint": "m.f/s", "bundle": "model", "replicates": 3, "grid": {"x": [1]}}
    (tmp_path / "study.yaml").write_text(json.dumps(content))
    done = mops_helm(
        "study", "run", "study.yaml", *SMALL, "--set", "executor.type=isolated_fork", cwd=tmp_path
    )
    assert "3 ok tasks each ran in a new interpreter instead of a "
    "fork" in done.stdout, done.stdout + done.stderr
    assert "threads running: heartbeat" in done.stdout
    (note,) = [line for line in done.stderr.splitlines() if "cannot fork this model" in line]
    assert "heartbeat" in note and re.search(r"which takes \S+ s a task", note)
    assert re.search(r"which took \S+ s more for each", done.stdout)
    store = Store(str(tmp_path / "out" / "s"))
    executors = [part.table["executor"].to_pylist() for part in parts.scan(store, ["executor"])]
    assert {name for names in executors for name in names} == {"cold"}, "what really ran"
    report = mops_helm("study", "report", "out/s", "--to", "s.html", cwd=tmp_path)
    price = re.search(
        r"instead of a fork .* which took \S+ s more for each: "
        r"[^<]*heartbeat",
        (tmp_path / "s.html").read_text(),
    )
    assert report.returncode == 0 and price
    assert re.search(
        r"which took \S+ s more for each", mops_helm("study", "status", "out/s", cwd=tmp_path).stdout
    )
    status = mops_helm("study", "status", "out/s", "-o", "json", cwd=tmp_path)
    ((reason, count),) = json.loads(status.stdout)["fallbacks"].items()
    assert "heartbeat" in reason and count == 3
