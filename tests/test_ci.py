"""The GitHub workflow and .ci/run do the same, and .ci/run finds the cluster for its tests."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FAKE_MAKE = """#!/bin/sh
echo "make $*, cluster ${KUBECONFIG:-none}" >> "$LOG"
case "$*" in e2e*) exit ${E2E_STATUS:-0} ;; esac
"""
FAKE_CLUSTER = """#!/bin/sh
echo "$1" >> "$LOG"
case $1 in
  status) echo "${CLUSTER_STATUS:-}" ;;
  up) echo 'export KUBECONFIG=/new/cluster' ;;
esac
"""


def load(path):
    return yaml.safe_load(path.read_text())


def ci_targets():
    """The targets of each call of make in .ci/run, in order, but for those on a cluster."""
    calls = re.findall(r"^make (.*)$", (ROOT / ".ci" / "run").read_text(), re.M)
    return [target for call in calls for target in call.split()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_pins_what_it_uses(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] and "permissions" not in job
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", f"a/b@{'0' * 40}"))


def test_the_workflow_runs_the_targets_of_ci_run():
    job = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["make"]
    targets = [target for call in job["strategy"]["matrix"]["targets"] for target in call.split()]
    assert targets == ci_targets() != []
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make ${{ matrix.targets }}"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n.PHONY: {target}\n" in makefile for target in targets)


@pytest.mark.skipif(not shutil.which("actionlint"), reason="needs actionlint on PATH")
def test_make_lint_finds_what_is_wrong_with_a_workflow(tmp_path):
    text = WORKFLOWS[0].read_text()
    wrong = tmp_path / "ci.yml"
    command = ["actionlint", "-shellcheck=", "-pyflakes=", str(wrong)]
    for content, status in ((text, 0), (text.replace("matrix.targets }}", "matrix.target }}"), 1)):
        wrong.write_text(content)
        assert subprocess.run(command, capture_output=True, check=False).returncode == status
    assert "actionlint -shellcheck= -pyflakes= .github/workflows/*.yml" in (ROOT / "Makefile").read_text()


@pytest.fixture
def checkout(tmp_path):
    """A folder with .ci/run alone, and in place of the real programs some that note how they are called."""
    (tmp_path / "repository" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "repository" / ".ci" / "run")
    for name, text in (("bin/make", FAKE_MAKE), ("bin/chromium", ""), ("own/cluster", FAKE_CLUSTER)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def run_ci(checkout, **variables):
    """The calls that .ci/run makes, and its exit status."""
    env = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "CI_CLUSTER")}
    env |= {"LOG": str(checkout / "log"), "PATH": f"{checkout / 'bin'}:{env['PATH']}", **variables}
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=checkout / "repository", env=env, capture_output=True, text=True
    )
    return (checkout / "log").read_text().splitlines(), done


def beside(checkout):
    """A program where this project's own place of work has one."""
    path = checkout / "shared" / "onenode" / "onenode"
    path.parent.mkdir(parents=True)
    shutil.copy(checkout / "own" / "cluster", path)
    return path


BEFORE = ["make lint, cluster none", "make scan, cluster none", "make tools-oldest, cluster none"]


def e2e(program):
    return f"make e2e PYTEST_ARGS=-m ci IMAGE_BUILDER={program} build, cluster /new/cluster"


def test_a_cluster_beside_the_checkout_is_used_without_any_setting(checkout):
    program = beside(checkout)
    calls, done = run_ci(checkout)
    assert calls == [*BEFORE, "status", "up", e2e(program), "down", "make test, cluster none"]
    assert done.returncode == 0


def test_a_variable_names_another_program(checkout):
    beside(checkout)
    program = checkout / "own" / "cluster"
    calls, _ = run_ci(checkout, CI_CLUSTER=str(program))
    assert calls == [*BEFORE, "status", "up", e2e(program), "down", "make test, cluster none"]
    calls, done = run_ci(checkout, CI_CLUSTER="no-such-program")
    assert done.returncode == 2 and "no-such-program is not a program that can be run" in done.stderr


def test_a_cluster_that_is_up_stays_up(checkout):
    calls, _ = run_ci(checkout, CI_CLUSTER=str(checkout / "own" / "cluster"), CLUSTER_STATUS="up")
    assert "up" in calls and "down" not in calls


def test_a_cluster_that_was_started_is_stopped_when_its_tests_fail(checkout):
    beside(checkout)
    calls, done = run_ci(checkout, E2E_STATUS="7")
    assert done.returncode == 7 and calls[-1] == "down"


def test_kubeconfig_names_a_cluster_whose_nodes_have_the_image(checkout):
    calls, _ = run_ci(checkout, KUBECONFIG="/mine")
    assert calls[3] == "make e2e PYTEST_ARGS=-m ci, cluster /mine"
    (checkout / "log").unlink()
    calls, _ = run_ci(checkout, KUBECONFIG="/mine", IMAGE_BUILDER="docker build")
    assert calls[3] == "make e2e PYTEST_ARGS=-m ci IMAGE_BUILDER=docker build, cluster /mine"


def test_without_a_cluster_everything_else_runs_and_it_says_so(checkout):
    calls, done = run_ci(checkout)
    assert calls == [*BEFORE, "make test, cluster none"] and done.returncode == 0
    assert "neither CI_CLUSTER nor KUBECONFIG is set" in done.stderr
