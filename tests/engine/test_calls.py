"""What a study calls, in words, and what of its parameters does not fit."""

from dataclasses import replace

import pytest

from executor_helpers import write_bundle
from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.executors import functions
from modelops_dask.plan import spec as specs
from modelops_dask.plan.document import BadDocument
from modelops_dask.settings import Settings
from modelops_dask.study import calls

MODEL = 'import json\n\ndef simulate(beta, gamma=0.1, *, seed):\n    "Runs."\n    return {}\n'
WIRE = "def wire(entrypoint, params, seed): return {}\n"


def check(folder, study: str, files: dict[str, str], settings: Settings | None = None):
    """The findings of a study file beside a bundle, as LINE:COLUMN and text."""
    write_bundle(folder, {"study.yaml": study, **files})
    spec = specs.load(folder / "study.yaml")
    try:
        calls.check_call(spec, Bundle(folder, "sha256:0"), settings or Settings())
    except BadDocument as error:
        return [(f"{finding.line}:{finding.column}", finding.message) for finding in error.findings]
    return []


HEAD = "model: model.simulate\n"
GRID = "model has no parameter"
CASES = {
    "good": (HEAD + "grid: {beta: [1]}\nfixed: {gamma: 1}\n", []),
    "unknown in grid": (
        HEAD + "grid: {beta: [1], r0: [1]}\n",
        [("2:19", "model.simulate has no parameter r0; it has beta, gamma")],
    ),
    "unknown in fixed": (
        HEAD + "grid: {beta: [1]}\nfixed:\n  r0: 1\n",
        [("4:3", "model.simulate has no parameter r0; it has beta, gamma")],
    ),
    "misspelt": (
        HEAD + "grid: {betta: [1]}\n",
        [("2:8", "model.simulate has no parameter betta; it has beta, gamma; did you mean beta?")],
    ),
    "missing": (
        HEAD + "grid: {gamma: [1]}\n",
        [("2:7", "model.simulate needs a value for beta, which has no default; add beta to grid or fixed")],
    ),
    "of a sample": (
        HEAD + "sobol:\n  n: 2\n  parameters:\n    beta: {low: 0, high: 1}\n    r0: {low: 0, high: 1}\n",
        [("6:5", "model.simulate has no parameter r0; it has beta, gamma")],
    ),
    "of sets": (
        HEAD + "sets:\n  - {beta: 1}\n  - {beta: 1, r0: 1}\n  - {params: {r0: 3, beta: 1}, seed: 4}\n",
        [("4:15", "model.simulate has no parameter r0; it has beta, gamma")],
    ),
    "of sets with seeds": (
        HEAD + "sets:\n  - {params: {r0: 3, beta: 1}, seed: 4}\n",
        [("3:15", "model.simulate has no parameter r0; it has beta, gamma")],
    ),
    "seed": (
        HEAD + "grid: {beta: [1], seed: [1]}\n",
        [("2:19", functions._explain_passed("model.simulate", "seed"))],
    ),
    "all at once": (
        HEAD + "grid: {r0: [1], seed: [1]}\n",
        [
            ("2:7", "model.simulate needs a value for beta, which has no default; add beta to grid or fixed"),
            ("2:8", "model.simulate has no parameter r0; it has beta, gamma"),
            ("2:17", functions._explain_passed("model.simulate", "seed")),
        ],
    ),
    "a misspelt function": (
        "model: model.simulat\ngrid: {beta: [1]}\n",
        [("1:8", "model has no function simulat; it has simulate; did you mean simulate?")],
    ),
    "by its entrypoint": (
        "entrypoint: model.nothing/baseline\ngrid: {beta: [1]}\n",
        [("1:13", "model has no function nothing; it has simulate")],
    ),
    "of an installed package": ("model: numpy.linalg.nothing\ngrid: {beta: [1]}\n", []),
}


@pytest.mark.parametrize(("study", "expected"), CASES.values(), ids=CASES.keys())
def test_findings(tmp_path, study, expected):
    assert check(tmp_path, study, {"model.py": MODEL}) == expected


KINDS = {
    "class": ("class simulate: pass", "is a class"),
    "async": ("async def simulate(beta): pass", "is an async function"),
    "command": ("import click\n@click.command()\ndef simulate(beta): pass", "is a command"),
    "arguments": (
        "def simulate():\n    p = argparse.ArgumentParser()\n    p.parse_args()",
        "from the command line",
    ),
    "method": ("class C:\n    def simulate(self, beta): pass", "is a method"),
}


@pytest.mark.parametrize(("code", "words"), KINDS.values(), ids=KINDS.keys())
def test_what_is_no_plain_function_is_refused(tmp_path, code, words):
    path = "model.C.simulate" if "class C" in code else "model.simulate"
    ((_, message),) = check(tmp_path, f"model: {path}\ngrid: {{beta: [1]}}\n", {"model.py": code})
    assert words in message


def test_the_source_and_the_runner_say_the_same(tmp_path):
    namespace: dict = {}
    exec(MODEL, namespace)
    wire = functions.make_wire("model.simulate", namespace["simulate"])
    messages = [
        text for _, text in check(tmp_path, HEAD + "grid: {r0: [1], scenario: [a]}\n", {"model.py": MODEL})
    ]
    with pytest.raises(functions.messages.CannotCall) as refusal:
        wire("model.simulate/baseline", {"r0": 1, "scenario": "a"}, 1)
    assert sorted(str(refusal.value).split("\n")) == sorted(messages)


def test_a_wire_function_needs_a_scenario_and_is_not_compared(tmp_path):
    files = {"model.py": MODEL, "wire.py": WIRE}
    assert check(tmp_path, HEAD + "scenario: a\ngrid: {r0: [1], seed: [2]}\n", files) == []
    (finding,) = check(tmp_path, HEAD + "grid: {r0: [1]}\n", files)
    assert finding[0] == "1:1" and "scenario is missing" in finding[1] and "scenario: baseline" in finding[1]


def test_a_function_with_a_scenario_needs_one_in_the_study(tmp_path):
    model = {"model.py": "def simulate(beta, scenario='high'): pass"}
    (finding,) = check(tmp_path, HEAD + "grid: {beta: [1]}\n", model)
    assert "scenario: baseline" in finding[1]
    assert check(tmp_path, HEAD + "scenario: high\ngrid: {beta: [1]}\n", model) == []


def test_nothing_is_compared_where_a_package_may_have_a_wire_function(tmp_path, monkeypatch):
    bad, files = HEAD + "grid: {r0: [1]}\n", {"model.py": MODEL}
    assert check(tmp_path, bad, files)
    image = Settings(executor_environment="image")
    assert check(tmp_path, bad, files, image)
    monkeypatch.setattr(functions, "has_installed_wire", lambda: True)
    assert check(tmp_path, bad, files)
    assert check(tmp_path, bad, files, image) == []
    monkeypatch.undo()
    declared = '[project]\nname = "m"\nversion = "1"\ndependencies = [\n    "modelops-calabaria",\n]\n'
    assert check(tmp_path, bad, {**files, "pyproject.toml": declared}) == []


CALLS = {
    "a function": ({"model.py": MODEL}, "Calls model.simulate(beta, gamma=0.1, *, seed) of model.py:3"),
    "a wire function": ({"wire.py": WIRE}, "Calls the wire function wire.py:wire"),
    "both": (
        {"model.py": MODEL, "wire.py": WIRE},
        "Calls the wire function wire.py:wire (model.py:3, which the study names, is not called)",
    ),
    "what is not known": ({"model.py": "from other import simulate"}, "Calls model.simulate"),
    "nothing": ({}, "Calls model.simulate"),
}


@pytest.mark.parametrize(("files", "text"), CALLS.values(), ids=CALLS.keys())
def test_what_is_called_in_words(tmp_path, files, text):
    bundle = Bundle(write_bundle(tmp_path, files), "sha256:0")
    assert str(calls.describe_call(bundle, "model.simulate/baseline")) == text


def test_a_study_that_is_in_no_file_has_findings_too(tmp_path):
    content = {"model": "model.simulate", "grid": {"r0": [1]}}
    spec = specs.from_content(content, tmp_path)
    bundle = Bundle(
        write_bundle(tmp_path, {"model.py": MODEL, "study.yaml": "model: another.file"}), "sha256:0"
    )
    with pytest.raises(BadDocument, match=r"grid\.r0: model\.simulate has no parameter r0"):
        calls.check_call(spec, bundle, Settings())
    with pytest.raises(BadInput, match="keep exactly one"):
        points = '[project.entry-points."modelops.wire"]\na = "m:f"\nb = "m:g"\n'
        write_bundle(tmp_path, {"pyproject.toml": points})
        calls.check_call(replace(spec), bundle, Settings())
