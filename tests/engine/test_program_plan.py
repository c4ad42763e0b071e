"""The program that a study file names: what is read, what is refused, and which study it is."""

import json
import random
import shlex
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from modelops_dask import placeholders
from modelops_dask.plan import contract, spec
from modelops_dask.plan.document import BadDocument
from modelops_dask.plan.program import describe_difference, is_entrypoint_of, render_command

SCHEMA = YAML(typ="safe").load(
    (Path(__file__).parents[2] / "schemas" / "study.schema.yaml").read_text("utf-8")
)
STUDY = {
    "command": ["./model", "--r0={r0}", "{seed}"],
    "outputs": {"curve": "out/curve.csv"},
    "grid": {"r0": [0.5, 2]},
}


def load(folder, **changes):
    path = folder / "study.yaml"
    study = {name: value for name, value in {**STUDY, **changes}.items() if value is not ...}
    path.write_text(json.dumps(study), "utf-8")
    return spec.load(path)


def findings(folder, **changes):
    with pytest.raises(BadDocument) as caught:
        load(folder, **changes)
    return [finding for finding in caught.value.findings if finding.severity == "error"]


def test_a_command_is_read_with_all_that_belongs_to_it(tmp_path):
    study = load(
        tmp_path,
        command=["./model", "{r0}", "{threads}", "{{", 3, True],
        environment={"SEED": "{seed}", "LEVEL": 2},
        parameters_file="in/params.json",
        outputs={
            "curve": "out/curve.CSV",
            "raw": "run_{seed}.bin",
            "said": "-",
            "table": "t.pq",
            "log": {"file": "-", "format": "json"},
        },
        scenario="high",
    )
    assert json.loads(study.program) == {
        "command": ["./model", "{r0}", "{threads}", "{{", "3", "true"],
        "environment": {"SEED": "{seed}", "LEVEL": "2"},
        "parameters_file": "in/params.json",
        "outputs": {
            "curve": {"file": "out/curve.CSV", "format": "csv"},
            "raw": {"file": "run_{seed}.bin", "format": "raw"},
            "said": {"file": "-", "format": "raw"},
            "table": {"file": "t.pq", "format": "parquet"},
            "log": {"file": "-", "format": "json"},
        },
    }
    contract.check_entrypoint(study.entrypoint)
    assert study.entrypoint.startswith("command.sha_") and study.entrypoint.endswith("/high")
    assert is_entrypoint_of(study.entrypoint, study.program)
    assert load(tmp_path).entrypoint.endswith("/baseline")


def test_another_command_is_another_study_and_other_parameters_are_not(tmp_path):
    changes = [
        {},
        {"command": ["./model", "{r0}", "{seed}"]},
        {"command": ["./model", "--r0={r0}", "{seed}", ""]},
        {"environment": {"A": "1"}},
        {"parameters_file": "params.json"},
        {"outputs": {"curve": "out/other.csv"}},
        {"outputs": {"bend": "out/curve.csv"}},
        {"outputs": {"curve": {"file": "out/curve.csv", "format": "raw"}}},
        {"scenario": "other"},
    ]
    studies = [load(tmp_path, **each) for each in changes]
    assert len({study.entrypoint for study in studies}) == len(changes)
    for study in studies:
        others = [other for other in studies if other.program != study.program]
        assert not any(is_entrypoint_of(other.entrypoint, study.program) for other in others)
    same = [
        {"grid": {"r0": [7]}, "replicates": 3},
        {"outputs": {"curve": {"file": "out/curve.csv"}}},
        {"outputs": {"curve": {"file": "out/curve.csv", "format": "csv"}}},
        {"environment": {}},
    ]
    assert {load(tmp_path, **each).entrypoint for each in same} == {studies[0].entrypoint}


def test_the_order_of_outputs_and_variables_makes_no_other_study(tmp_path):
    one, two = {"a": "a.csv", "b": "b.csv"}, {"b": "b.csv", "a": "a.csv"}
    first = load(tmp_path, outputs=one, environment=one)
    assert load(tmp_path, outputs=two, environment=two).entrypoint == first.entrypoint


def test_a_difference_of_programs_names_what_differs(tmp_path):
    one = load(tmp_path).program
    two = load(tmp_path, command=["./model", "{r0}"], environment={"SEED": "{seed}"}).program
    assert describe_difference(one, two) == (
        'command: ["./model", "--r0={r0}", "{seed}"]',
        'command: ["./model", "{r0}"], environment: {"SEED": "{seed}"}',
    )
    assert describe_difference("", one)[0].startswith("one without command")
    assert render_command(one) == "./model '--r0={r0}' '{seed}'"


BAD = {
    "text": ({"command": "./model -v {r0}"}, "command", "TYPE", 'write ["./model", "-v", "{r0}"]'),
    "shell": ({"command": "./model {r0} | sort"}, "command", "TYPE", '["sh", "-c", "./model {r0} | sort"]'),
    "empty": ({"command": []}, "command", "EMPTY", "a list"),
    "null": ({"command": None}, "command", "EMPTY", "a list"),
    "nested": ({"command": ["./model", ["{r0}"]]}, "command", "TYPE", "must be text"),
    "null item": ({"command": ["./model", None, "{r0}"]}, "command", "EMPTY", "the value is missing"),
    "no name": ({"command": ["", "{r0}"]}, "command", "EMPTY", "the program"),
    "parent": ({"command": ["../model", "{r0}"]}, "command", "VALUE", "leads outside the bundle"),
    "misspelt": ({"command": ["./model", "{r0} {sed}"]}, "command", "PLACEHOLDER", "did you mean {seed}?"),
    "unknown": (
        {"command": ["./m", "{beta}", "{r0}"]},
        "command",
        "PLACEHOLDER",
        "expected one of r0, scenario",
    ),
    "awk": ({"command": ["awk", "{print $1}", "{r0}"]}, "command", "PLACEHOLDER", "write {{ or }}"),
    "brace": ({"command": ["./model", "{r0"]}, "command", "PLACEHOLDER", "is unmatched"),
    "no file": ({"command": ["./m", "{parameters_file}", "{r0}"]}, "command", "PLACEHOLDER", "params.json"),
    "unused": (
        {"fixed": {"days": 5}},
        "fixed",
        "NOT_PASSED",
        "days does not reach the program; write {days}",
    ),
    "reserved": ({"fixed": {"seed": 5}}, "fixed", "PLACEHOLDER", "seed cannot be a parameter"),
    "list": ({"grid": {"r0": [[1, 2]]}}, "grid", "PLACEHOLDER", "parameters_file: params.json"),
    "mapping": ({"fixed": {"r0": {"a": 1}}, "grid": ..., "sets": [{}]}, "fixed", "PLACEHOLDER", "a mapping"),
    "zero byte": ({"grid": {"r0": ["a\0b"]}}, "grid", "PLACEHOLDER", "zero byte"),
    "lacking": ({"grid": ..., "sets": [{"r0": 1}, {}]}, "sets", "MISSING", "r0 is missing in this set"),
    "model": ({"model": "models.sir"}, "model", "CHOICE", "remove model or command"),
    "entrypoint": ({"entrypoint": "models.sir/a"}, "entrypoint", "CHOICE", "remove entrypoint or command"),
    "scenario": ({"scenario": "A B"}, "scenario", "ENTRYPOINT", "not a scenario"),
    "outputs": ({"outputs": ...}, "command", "MISSING", "outputs is missing; name the files"),
    "no outputs": ({"outputs": {}}, "outputs", "EMPTY", "at least one"),
    "output list": ({"outputs": ["curve"]}, "outputs", "TYPE", "mapping"),
    "no path": ({"outputs": {"curve": None}}, "outputs", "EMPTY", "the file's path"),
    "absolute": ({"outputs": {"curve": "/tmp/x.csv"}}, "outputs", "VALUE", "relative path"),
    "outside": ({"outputs": {"curve": "a/../../x.csv"}}, "outputs", "VALUE", "relative path"),
    "format": ({"outputs": {"c": {"file": "x", "format": "xls"}}}, "outputs", "VALUE", "one of csv, json"),
    "output key": ({"outputs": {"c": {"file": "x", "fromat": "csv"}}}, "outputs", "UNKNOWN", "format?"),
    "file name": ({"outputs": {"c": "{sed}.csv"}}, "outputs", "PLACEHOLDER", "did you mean {seed}?"),
    "variable": ({"environment": {"A B": "1"}}, "environment", "NAME", "the name of a variable"),
    "own variable": (
        {"environment": {"MODELOPS_RUNNER": "1"}},
        "environment",
        "NAME",
        "is reserved for the worker",
    ),
    "variables": ({"environment": ["A=1"]}, "environment", "TYPE", "mapping"),
    "file outside": ({"parameters_file": "../p.json"}, "parameters_file", "VALUE", "relative path"),
    "too long": (
        {"command": ["./model", "{r0}", "x" * 70_000]},
        "command",
        "TOO_LARGE",
        "the limit is 65,536",
    ),
}


@pytest.mark.parametrize(("changes", "where", "code", "text"), BAD.values(), ids=BAD)
def test_what_is_wrong_with_a_command_is_a_finding(changes, where, code, text, tmp_path):
    found = findings(tmp_path, **changes)
    assert [(finding.code, text in finding.message) for finding in found] == [(code, True)], found
    lines = (tmp_path / "study.yaml").read_text("utf-8")
    assert lines[found[0].column - 1 :].startswith(("{", "[", '"', "null", "5")), (where, found[0].column)


@pytest.mark.parametrize("name", ["environment", "parameters_file"])
def test_what_belongs_to_a_command_is_refused_without_one(name, tmp_path):
    value = {"environment": {"A": "1"}, "parameters_file": "p.json"}[name]
    rest = {"command": ..., "outputs": ..., "model": "models.sir", "scenario": "a"}
    found = findings(tmp_path, **{**rest, name: value})
    assert [finding.code for finding in found] == ["CHOICE"]
    assert f"{name} belongs to a command" in found[0].message


def test_what_the_finding_on_a_text_advises_is_accepted(tmp_path):
    text = './model "two words" {r0} {seed}'
    (finding,) = findings(tmp_path, command=text)
    advised = YAML(typ="safe").load(finding.message.partition("write ")[2])
    assert advised == shlex.split(text)
    assert json.loads(load(tmp_path, command=advised).program)["command"] == advised


def test_an_unquoted_placeholder_is_told_from_a_mapping(tmp_path):
    [finding] = findings(tmp_path, command=["./model", {"r0": None}], deterministic=True)
    assert finding.message.endswith('; write "{r0}", in quotes, for the value of a parameter')


@pytest.mark.parametrize("file", ["params.json", "./params.json"])
def test_an_output_is_not_the_file_that_the_program_reads(file, tmp_path):
    [finding] = findings(tmp_path, outputs={"a": file}, parameters_file="params.json")
    assert finding.code == "VALUE" and "is the parameters_file" in finding.message


def test_a_million_wrong_sets_are_few_findings(tmp_path):
    found = findings(tmp_path, grid=..., sets=[{"r0": [number]} for number in range(1000)])
    assert 1 < len(found) < 30


def test_parameters_reach_the_program_by_any_way(tmp_path):
    nested = {"fixed": {"seasons": [1, 2]}}
    load(tmp_path, parameters_file="params.json", **nested)
    load(tmp_path, environment={"DAYS": "{days}"}, fixed={"days": 3})
    load(tmp_path, outputs={"curve": "{days}.csv"}, fixed={"days": 3})


def test_replicates_of_a_command_without_seed_are_warned_about(tmp_path):
    unseeded = ["./model", "{r0}"]
    assert [w.code for w in load(tmp_path, command=unseeded, replicates=2).warnings] == ["NO_SEED"]
    assert not load(tmp_path, command=unseeded).warnings
    assert not load(tmp_path, command=unseeded, replicates=2, deterministic=True).warnings
    assert not load(tmp_path, command=unseeded, replicates=2, environment={"S": "{seed}"}).warnings


def test_the_schema_accepts_what_is_accepted_and_knows_each_name():
    validator = Draft7Validator(SCHEMA)
    good = {
        **STUDY,
        "environment": {"A": "{seed}", "B": 1},
        "parameters_file": "p.json",
        "outputs": {"a": "a.csv", "b": {"file": "-", "format": "json"}},
    }
    assert not list(validator.iter_errors(good))
    for name in ("text", "empty", "no outputs", "output list", "format", "variables", "model", "output key"):
        assert list(validator.iter_errors({**STUDY, **BAD[name][0]})), name
    assert list(
        validator.iter_errors({"model": "a.b", "scenario": "c", "outputs": {"a": "b"}, "grid": {"x": [1]}})
    )


# Placeholders


def test_placeholders_are_filled_and_braces_kept():
    values = {"a": "{b}", "b": "2", "": "empty"}
    assert placeholders.fill("{a}{{a}}{b}-{}", values) == "{b}{a}2-empty"
    assert placeholders.list_names("{a}{{x}}{b c}{}") == ["a", "b c", ""]


def test_texts_without_braces_of_their_own_come_back_when_escaped():
    seed = 20_18
    print("seed", seed)
    generator = random.Random(seed)
    for _ in range(500):
        text = "".join(generator.choices("{}ab \n'\"$", k=generator.randrange(12)))
        escaped = text.replace("{", "{{").replace("}", "}}")
        assert placeholders.list_names(escaped) == []
        assert placeholders.fill(escaped, {}) == text


@pytest.mark.parametrize("text", ["{", "}", "{a}}", "{{a}", "a{b", "{a{b}"])
def test_a_brace_that_stands_alone_is_refused(text):
    with pytest.raises(ValueError, match="is unmatched"):
        placeholders.list_names(text)


def test_numbers_as_arguments_are_read_back_as_they_were():
    generator = random.Random(18)
    numbers = [generator.uniform(-1, 1) * 10.0 ** generator.randrange(-300, 300) for _ in range(500)]
    assert [float(placeholders.format_value(number)) for number in numbers] == numbers
    values = [True, False, None, 10**18, -0.0, "a b", ""]
    assert [placeholders.format_value(value) for value in values] == [
        "true",
        "false",
        "null",
        "1000000000000000000",
        "-0.0",
        "a b",
        "",
    ]
