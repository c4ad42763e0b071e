"""Presets on a cluster: pods get ready under Pod Security `restricted`, and each process is what the values say."""

import pytest

from chart.rendering import HELMS, ROOT, flag, memory_limit, render, workers
from e2e.cluster import CI_VALUES

# Every isolation, and every shape that differs in how Dask is started.
NAMES = [
    "baseline",
    "debug-isolated",
    "isolated-fork",
    "cold",
    "simulation",
    "memory-heavy",
    "runner",
    "analytics",
]


@pytest.mark.parametrize("name", NAMES)
def test_each_process_is_what_the_preset_says(name, release):
    helm = HELMS[NAMES.index(name) % len(HELMS)]
    _compare(name, helm, release)


def test_debug_isolated_with_either_helm(helm, release):
    (process,) = _compare("debug-isolated", helm, release)
    assert process["executor"] == "direct"


def _compare(name, helm, release):
    files = [ROOT / "values" / f"{name}.yaml", CI_VALUES]
    rendered = render(helm, *(word for path in files for word in ("--values", path)))
    deployment = workers(rendered)
    processes = int(flag(deployment, "--nworkers"))
    with release("study", *files, helm=helm) as installed:
        found = installed.workers(processes)
        assert len(found) == processes
        for process in found:
            assert process["memory_limit"] == memory_limit(rendered)
            assert process["threads"] == int(flag(deployment, "--nthreads"))
    return found
