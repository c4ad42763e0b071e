"""Presets on a cluster: pods get ready under Pod Security `restricted`, each process is what the values say.

`helm test` must agree. What the chart renders says what to expect; that it is what the engine computes is
tests/chart's matter.
"""

import pytest

from chart.rendering import HELMS, PRESET_VALUES, ROOT, env, flag, layers, memory_limit, render, workers
from e2e.cluster import CI_VALUES

# Every isolation, and the shapes that differ in how Dask is started; the helms take turns. That both switch
# between baseline and debug-isolated, test_release_live.py proves.
NAMES = [
    "debug-isolated",
    "single-process",
    "isolated-fork",
    "cold",
    "simulation",
    "memory-heavy",
]
TURNS = [(name, HELMS[number % 2]) for number, name in enumerate(NAMES)]


@pytest.mark.ci
@pytest.mark.parametrize("name, helm", TURNS)
def test_each_process_is_what_the_preset_says(name, helm, release):
    files = [ROOT / "values" / f"{name}.yaml", CI_VALUES]
    rendered = render(helm, *layers(*files))
    deployment = workers(rendered)
    preset = PRESET_VALUES[name].get("preset", "")
    wanted = {
        "executor": "direct" if name == "debug-isolated" else env(deployment)["MODELOPS_EXECUTOR_TYPE"],
        "preset": preset,
        "threads": int(flag(deployment, "--nthreads")),
        "memory_limit": memory_limit(rendered),
    }
    processes = int(flag(deployment, "--nworkers"))
    with release("study", *files, helm=helm) as installed:
        found = [{key: process[key] for key in wanted} for process in installed.workers(processes)]
        installed.test()
    assert found == [wanted] * processes
