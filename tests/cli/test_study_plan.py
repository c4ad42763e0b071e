"""What `study plan` says of the time and memory that a study will take."""

import json
import shlex

import pytest
from click.testing import CliRunner

from mops_helm.main import main
from study_helpers import SMALL, write_spec

PLAN = ["study", "plan", "study.yaml"]


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(tmp_path / "cache"))

    def call(*args):
        done = CliRunner().invoke(main, [*PLAN, *args])
        assert done.exit_code == 0, done.output
        return done

    return call


def test_a_large_study_of_which_nothing_is_known_should_begin_with_a_pilot(call, tmp_path):
    write_spec(tmp_path, n=1001)
    done = call()
    assert "--tasks 20" in done.stderr and "adaptive" in done.stderr and "time " not in done.stdout
    assert json.loads(call("-o", "json").stdout)["expected"] is None
    write_spec(tmp_path, n=1000)
    assert call().stderr == "Calls the wire function wire.py:wire\n"


def test_a_pilot_runs_some_tasks_and_later_plans_know_what_they_took(call, tmp_path):
    write_spec(tmp_path, n=3000, replicates=4, seconds=0.01)
    line = next(line for line in call().stderr.splitlines() if "--tasks" in line)
    words = shlex.split(line)[3:]
    assert words == ["study.yaml", "--tasks", "20"]
    done = call(*words[1:], *SMALL)
    assert "time        about" in done.stdout and "mean of 20, isolated_warm" in done.stdout
    assert "preset      this shape fits" in done.stdout
    status = CliRunner().invoke(main, ["study", "status", "out/knobs", "-o", "json"])
    assert json.loads(status.stdout)["ok"] == 20
    expected = json.loads(call("--preset", "simulation", "-o", "json").stdout)["expected"]
    assert expected["side_by_side"] == 8 and expected["measured_tasks"] == 20
    assert expected["seconds"] == pytest.approx(12_000 * expected["task_seconds"] / 8, rel=0.01)
    wide = ("--set", "workers.replicas=1000")
    here = json.loads(call("--preset", "simulation", *wide, "-o", "json").stdout)["expected"]
    assert here["side_by_side"] == 4000 and 0 < here["side_by_side_here"] < 4000
    whole = 12_000 * here["task_seconds"]  # not by `seconds`, of which rounding leaves two digits
    assert here["seconds_here"] == pytest.approx(whole / here["side_by_side_here"], rel=0.01)
    assert f"{here['side_by_side_here']} at the same time on this machine" in call(*wide).stdout
    assert "besides     the process that cold starts" in call("--preset", "cold").stdout
    assert 0.01 <= expected["task_seconds"] < 5
    assert call("--store", "out/another").stdout.count("mean of 20") == 1


def test_a_shape_whose_tasks_would_not_fit_is_told_with_the_preset_that_does(call, tmp_path):
    write_spec(tmp_path, n=10)
    call("--pilot", "5", *SMALL)
    path = tmp_path / "out" / "knobs" / "profile.json"
    held = json.loads(path.read_text())
    for peak, preset in ((1.2 * 2**30, "--preset memory-heavy"), (2**40, "no preset gives a task that much")):
        path.write_text(json.dumps(held | {"most_peak_bytes": int(peak)}))
        assert f"preset      {preset}" in call().stdout
