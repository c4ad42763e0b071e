"""`helm test` on a cluster: red with the reason, green for plain Dask. test_presets_live.py has presets."""

import subprocess

import pytest

from e2e.cluster import CI_VALUES, eventually


def helm_test(installed) -> subprocess.CompletedProcess[str]:
    return subprocess.run(installed.test_command(), text=True, capture_output=True, timeout=600)


def test_plain_dask_is_tested_too(release):
    with release("study", CI_VALUES, sets=["executor.type=none"]) as installed:
        done = helm_test(installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 + 2 + ... + 100 = 5050" in done.stdout + done.stderr


@pytest.mark.ci
def test_red_with_the_reason(release):
    """Somebody edited the Deployment: the workers run, but not as the values say."""
    sets = ["workers.processes=1", "executor.environment=image"]
    with release("study", CI_VALUES, sets=sets, helm="helm3") as installed:
        installed.kubectl("set", "env", "deployment/study-worker", "MODELOPS_EXECUTOR_TYPE=cold")
        installed.kubectl("rollout", "status", "deployment/study-worker", "--timeout=480s")
        eventually(lambda: len(installed.pods("worker")) == 1, "one worker pod")
        done = helm_test(installed)
    assert done.returncode != 0
    assert "executor is 'cold', expected 'isolated_warm'" in done.stdout + done.stderr
