"""What `study run` prints of models that fail, and that its advice works when it is typed."""

import json
import re
import shlex

import pytest

from study_helpers import SMALL, mops_helm

CASE = """
import warnings
class BadStr(Exception):
    def __str__(self):
        raise ValueError("no text for you")
def wire(entrypoint, params, seed):
    kind, n = params["kind"], params["n"]
    if kind == "group":
        errors = [ValueError(f"S is negative: -{n}.0"), ZeroDivisionError("N is 0")]
        raise ExceptionGroup("2 compartments failed", errors)
    if kind == "pydantic":
        url = "https://errors.example/v/greater_than"
        raise ValueError(f"1 validation error for Params\\nbeta\\n  greater than 0 [{n}]\\n    see {url}")
    if kind == "note":
        error = KeyError("contact_rate")
        error.add_note("while building the network")
        raise error
    if kind == "bad":
        raise BadStr()
    if kind == "exit":
        raise SystemExit(f"district {n} has no people")
    if kind == "other exit":
        raise SystemExit("no licence")
    return {"x": b"1"}
"""


def write(folder, wire: str, **study: object):
    """A study in a folder beside its bundle."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "wire.py").write_text(wire)
    content = {"name": "s", "entrypoint": "m.f/s", "bundle": "model", "replicates": 1, **study}
    (folder / "study.yaml").write_text(json.dumps(content))


def test_failures_are_counted_by_what_they_say(tmp_path):
    kinds = ["group", "pydantic", "note", "bad", "exit", "other exit", "fine"]
    write(tmp_path, CASE, grid={"kind": kinds, "n": [1, 2, 3]})
    done = mops_helm("study", "run", "study.yaml", *SMALL, "-o", "json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    told = {reason["why"]: reason for reason in summary["by_reason"]}
    assert {reason["count"] for reason in told.values()} == {3} and len(told) == 6
    group = told["ExceptionGroup: 2 compartments failed (2 sub-exceptions)"]
    assert group["details"] == ["first: ValueError: S is negative: -1.0"]
    assert told["KeyError: 'contact_rate'"]["details"] == ["while building the network"]
    assert told["ValueError: 1 validation error for Params"]["details"][:2] == ["beta", "greater than 0 [1]"]
    assert "wire.BadStr: <exception str() failed>" in told
    assert "SystemExit: district 1 has no people" in told and "SystemExit: no licence" in told
    shown = mops_helm("study", "status", "out/s", cwd=tmp_path)
    assert "while building the network" in shown.stdout and "first: ValueError: S is" in shown.stdout


def test_a_seed_that_does_not_fit_is_named_as_what_failures_have_in_common(tmp_path):
    write(
        tmp_path,
        "import struct\ndef wire(e, params, seed): return {'x': struct.pack('i', seed)}",
        grid={"x": [1, 2]},
        replicates=12,
    )
    done = mops_helm("study", "run", "study.yaml", *SMALL, cwd=tmp_path)
    assert re.search(r"All \d+ failed tasks have a seed of 2\^31 or more; all \d+ ok tasks have", done.stdout)
    status = json.loads(mops_helm("study", "status", "out/s", "-o", "json", cwd=tmp_path).stdout)
    assert len(status["separation"]) == 1
    assert mops_helm("study", "report", "out/s", "--to", "s.html", cwd=tmp_path).returncode == 0
    assert "have a seed of 2^31 or more" in (tmp_path / "s.html").read_text()


@pytest.mark.parametrize(
    "wire, told",
    [
        ("import nowhere_to_be_found\ndef wire(e, params, seed): return {'x': b'1'}\n", "does not start"),
        ("def wire(e, params, seed):\n    raise ValueError(params)\n", "failed in the same way"),
    ],
)
def test_the_advice_of_a_study_that_is_stopped_works(tmp_path, wire, told):
    """It is typed: the task fails in the foreground; then the model is corrected, and a new store filled."""
    write(tmp_path, wire, grid={"x": list(range(50))})
    done = mops_helm("study", "run", "study.yaml", *SMALL, cwd=tmp_path)
    assert done.returncode == 4 and told in done.stderr, done.stderr
    assert "(wire.py:" in done.stderr and "tasks are pending; stored results are safe" in done.stderr
    (command,) = [line for line in done.stderr.splitlines() if line.startswith("  mops-helm study try")]
    tried = mops_helm(*shlex.split(command)[1:], cwd=tmp_path)
    error = "ModuleNotFoundError" if "nowhere" in wire else "ValueError"
    assert tried.returncode == 3 and error in tried.stdout + tried.stderr, tried.stderr
    again = mops_helm("study", "run", "study.yaml", *SMALL, cwd=tmp_path)
    assert again.returncode == 4 and told in again.stderr
