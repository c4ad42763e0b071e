"""A study that is spoiled by the order of its tasks: the run says so, and what it prints, typed, cures it."""

import json
import shlex

from study_helpers import SMALL, mops_helm

MODEL = """
import random
SETTINGS = {"decay": 1}
def wire(entrypoint, params, seed):
    if params["x"] == 2:
        SETTINGS["decay"] = 5
    return {"y": str(random.Random(seed).random() * SETTINGS["decay"]).encode()}
"""
ONE = [SMALL[0], SMALL[1].replace("processes=2", "processes=1")]


def test_after_a_spoiled_study_the_printed_command_alone_ends_in_a_right_one(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wire.py").write_text(MODEL)
    content = {"name": "s", "entrypoint": "m.f/s", "bundle": "model", "replicates": 2}
    (tmp_path / "study.yaml").write_text(json.dumps(content | {"grid": {"x": [1, 2, 3, 4]}}))

    spoiled = mops_helm("study", "run", "study.yaml", *ONE, cwd=tmp_path)
    assert spoiled.returncode == 3, spoiled.stderr
    assert "tasks that ran before it in its process changed" in spoiled.stdout
    found = mops_helm("study", "verify", "out/s", "--sample", "4", cwd=tmp_path)
    assert found.returncode == 3 and "ORDER" in found.stdout and "CHECK" in found.stdout

    (command,) = (line for line in spoiled.stdout.splitlines() if "--redo" in line)
    cured = mops_helm(*shlex.split(command)[1:], cwd=tmp_path)
    assert cured.returncode == 0, cured.stdout + cured.stderr
    assert "all equal" in cured.stdout
    status = json.loads(mops_helm("study", "status", "out/s", "-o", "json", cwd=tmp_path).stdout)
    assert status["self_check"]["different"] == [] and status["self_check"]["equal"] >= 1
    verified = mops_helm("study", "verify", "out/s", "--sample", "8", cwd=tmp_path)
    assert verified.returncode == 0 and "Nothing is wrong." in verified.stdout, verified.stdout
