"""Targets of the Makefile that must not do by accident what they do."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _without_a_cluster(*command):
    env = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, check=False)


def test_e2e_wants_a_cluster_by_name():
    done = _without_a_cluster("make", "-o", "dev", "-o", "tools", "e2e")
    assert done.returncode == 2
    assert "Set KUBECONFIG" in done.stderr


def test_every_process_of_pytest_collects_the_same_tests():
    """Otherwise `make test-fast` and `make test`, which use two processes, run no test at all."""
    collect = (sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider")
    first, second = (_tests_of(_without_a_cluster(*collect).stdout) for _ in range(2))
    assert len(first) > 1000
    assert [name for name in first if name not in second] == []


def _tests_of(printed):
    return {line for line in printed.splitlines() if "::" in line}


def test_pytest_leaves_clusters_alone_unless_asked():
    everything = _without_a_cluster(sys.executable, "-m", "pytest", "--collect-only", "--quiet")
    assert "tests/chart/" in everything.stdout
    assert "tests/e2e/" not in everything.stdout
    asked = _without_a_cluster(sys.executable, "-m", "pytest", "--quiet", "tests/e2e")
    assert asked.returncode == 0
    assert "skipped" in asked.stdout
    assert "passed" not in asked.stdout
