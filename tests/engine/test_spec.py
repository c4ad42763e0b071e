"""Study files as people write them, good and bad."""

import json
import math
import re
from itertools import product
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from modelops_dask.documents import nodes
from modelops_dask.errors import BadInput
from modelops_dask.plan import spec
from modelops_dask.plan.document import BadDocument

ROOT = Path(__file__).parents[2]
HEAD = "model: models.sir\nscenario: baseline\n"
SCHEMA = YAML(typ="safe").load((ROOT / "schemas" / "study.schema.yaml").read_text())


@pytest.fixture
def load(tmp_path):
    def load(text, name="sir.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return spec.load(path)

    return load


@pytest.fixture
def findings(load):
    def findings(text, name="sir.yaml"):
        with pytest.raises(BadDocument) as caught:
            load(text, name)
        for line in str(caught.value).splitlines():
            assert re.match(rf".*{re.escape(name)}:\d+:\d+  [A-Z_]+  \S", line), line
        return [f"{f.line}:{f.column} {f.code}" for f in caught.value.findings]

    return findings


# good ones


def test_sets_of_both_forms(load):
    study = load(
        HEAD + "replicates: 3\nfixed: {n: 10}\nsets:\n- {beta: 0.1}\n- params: {beta: 0.2}\n  seed: 52\n"
    )
    assert list(study.sets()) == [({"beta": 0.1, "n": 10}, None), ({"beta": 0.2, "n": 10}, 52)]
    assert (study.name, study.entrypoint, study.replicates) == ("sir", "models.sir/baseline", 3)


def test_a_parameter_may_be_named_params(load):
    study = load(HEAD + "sets:\n- {params: 1, beta: 2}\n- {params: 2}\n")
    assert [params for params, _ in study.sets()] == [{"params": 1, "beta": 2}, {"params": 2}]


def test_a_set_without_params_is_parameters_whatever_their_names(load):
    text = HEAD + "sets:\n- {seed: 5, beta: 0.1}\n- {parameters: {beta: 1}}\n- {farms: {a: 1}, label: low}\n"
    study = load(text)
    assert list(study.sets()) == [
        ({"seed": 5, "beta": 0.1}, None),
        ({"parameters": {"beta": 1}}, None),
        ({"farms": {"a": 1}, "label": "low"}, None),
    ]
    assert [(f.line, f.column, f.code) for f in study.warnings] == [(4, 4, "SET_FORM"), (5, 4, "SET_FORM")]
    for finding in study.warnings:
        assert "write {params: {" in finding.message


def test_what_the_warnings_of_sets_advise_warns_no_more(load):
    text = HEAD + "sets:\n- {params: {seed: 5, beta: 0.1}}\n- {params: {parameters: {beta: 1}}}\n"
    study = load(text)
    assert [params for params, _ in study.sets()] == [{"seed": 5, "beta": 0.1}, {"parameters": {"beta": 1}}]
    assert study.warnings == ()


def test_a_slip_in_each_of_many_sets_is_not_looked_for_in_each(load):
    sets = [{"params": {"a": number}, "seed": 1, "label": "x"} for number in range(20_000)]
    raw = {"model": "m.s", "scenario": "a", "parameter_sets": sets}
    with pytest.raises(BadDocument) as caught:
        load(json.dumps(raw), "a.json")
    assert 1 < len(caught.value.findings) < 100


def test_sets_from_python_have_the_same_forms(tmp_path):
    sets = [{"params": {"a": 1}, "seed": 5, "label": "low"}]
    with pytest.raises(BadDocument, match="unknown field label"):
        spec.from_content({"model": "m.s", "scenario": "a", "sets": sets}, tmp_path)


def test_grid_last_name_varies_fastest(load):
    study = load(
        HEAD
        + "grid:\n  a: [1, 2]\n  b: {low: 0.1, high: 0.5, num: 5}\n"
        + "  c: {low: 1, high: 100, num: 3, scale: log}\n"
    )
    expected = product([1, 2], [0.1, 0.2, 0.3, 0.4, 0.5], [1.0, 10.0, 100.0])
    assert [(p["a"], p["b"], p["c"]) for p, _ in study.sets()] == list(expected)


@pytest.mark.parametrize("way", ["latin-hypercube", "sobol"])
def test_samples_fill_their_ranges_and_stay_the_same(load, way):
    text = (
        f"{HEAD}{way}:\n  n: 64\n  seed: SEED\n  parameters:\n"
        "    a: {low: -1, high: 1}\n    b: {low: 0.001, high: 10, scale: log}\n"
        "    k: {low: 1, high: 4, integer: true}\n"
    )
    sets = [params for params, _ in load(text.replace("SEED", "7")).sets()]
    assert sets == [params for params, _ in load(text.replace("SEED", "7")).sets()]
    assert sets != [params for params, _ in load(text.replace("SEED", "8")).sets()]
    assert {p["k"] for p in sets} == {1, 2, 3, 4} and all(type(p["k"]) is int for p in sets)
    for name, low, high, scale in (("a", -1, 1, float), ("b", math.log(0.001), math.log(10), math.log)):
        values = [scale(p[name]) for p in sets]
        quarters = [int(4 * (value - low) / (high - low)) for value in values]
        assert [quarters.count(i) for i in range(4)] == [16, 16, 16, 16]


def test_a_larger_sobol_sample_begins_with_the_smaller(load):
    text = HEAD + "sobol:\n  n: {}\n  parameters: {{a: {{low: 0, high: 1}}}}\n"
    small, large = ([p for p, _ in load(text.format(n)).sets()] for n in (16, 64))
    assert large[:16] == small


def test_modelops_json_unchanged(load):
    raw = {
        "model": "models.seir",
        "scenario": "baseline",
        "parameter_sets": [{"params": {"beta": 0.1}}, {"params": {"beta": 0.1}, "seed": 52}],
        "sampling_method": "sobol",
        "n_replicates": 30,
        "outputs": None,
        "metadata": {"bounds": [0, 1]},
        "targets": ["targets.t:prevalence"],
        "created_by": "another version",
    }
    study = load(json.dumps(raw), "job.json")
    assert (study.name, study.entrypoint, study.replicates) == ("job", "models.seir/baseline", 30)
    assert list(study.sets()) == [({"beta": 0.1}, None), ({"beta": 0.1}, 52)]
    assert study.metadata == {
        "bounds": [0, 1],
        "sampling_method": "sobol",
        "targets": ["targets.t:prevalence"],
    }
    raw["parameter_sets"] = [{"beta": 0.1}, {"beta": 0.2}]
    assert [p for p, _ in load(json.dumps(raw), "job.json").sets()] == raw["parameter_sets"]


def test_one_replicate_where_every_set_has_a_seed(load):
    assert (
        load(
            HEAD + "replicates: 30\nsets:\n- {params: {a: 1}, seed: 1}\n- {params: {a: 1}, seed: 2}\n"
        ).replicates
        == 1
    )


@pytest.mark.parametrize(
    "name, file, expected",
    [("", "sweep.yaml", "sweep"), ("", "study.yaml", "FOLDER"), ("name: mine\n", "study.yaml", "mine")],
)
def test_name(load, tmp_path, name, file, expected):
    assert load(name + HEAD + "sets: [{a: 1}]\n", file).name == expected.replace("FOLDER", tmp_path.name)


def test_bundle_is_relative_to_the_file_unless_it_is_a_digest(load, tmp_path):
    assert load(HEAD + "bundle: ..\nsets: [{a: 1}]\n").bundle == str(tmp_path.parent)
    reference = f"registry.example/sir@sha256:{'0' * 64}"
    assert load(HEAD + f"bundle: {reference}\nsets: [{{a: 1}}]\n").bundle == reference


# bad ones: the first lines of a file stand for `model` and `scenario`

BAD = {
    "nothing": ("", ["1:1 EMPTY"]),
    "a list": ("- 1\n", ["1:1 EMPTY"]),
    "values of the chart": ("preset: baseline\nworkers: {replicas: 2}\nother: 1\n", ["1:1 EMPTY"]),
    "syntax": (HEAD + "sets: [\n", ["4:1 SYNTAX"]),
    "a tab": (HEAD + "grid:\n\ta: [1]\n", ["4:1 SYNTAX"]),
    "two documents": (HEAD + "---\na: 1\n", ["3:1 SYNTAX"]),
    "no sets": (HEAD, ["1:1 CHOICE"]),
    "two ways": (HEAD + "sets: [{a: 1}]\nsobol: {}\n", ["4:8 CHOICE"]),
    "empty sets": (HEAD + "sets: []\n", ["3:7 EMPTY"]),
    "empty grid": (HEAD + "grid: {}\n", ["3:7 EMPTY"]),
    "empty axis": (HEAD + "grid: {a: []}\n", ["3:11 EMPTY"]),
    "nothing after grid": (HEAD + "grid:\n", ["3:1 EMPTY"]),
    "a comment after grid": (HEAD + "grid:  # later\nname: a\n", ["3:1 EMPTY"]),
    "nothing after sets": (HEAD + "sets:\n\nname: a\n", ["3:1 EMPTY"]),
    "nothing after an axis": (HEAD + "grid:\n  a:\n  b: [1]\n", ["4:3 TYPE"]),
    "nothing after names": (
        "name:\nmodel:\nscenario: ''\nreplicates:\nfixed:\nsobol:\n  n:\n  parameters:\n",
        [f"{line} EMPTY" for line in ("1:1", "2:1", "3:11", "4:1", "5:1", "7:3", "8:3")],
    ),
    "nothing after bounds": (
        HEAD
        + "sobol:\n  n: 4\n  parameters:\n    a:\n      low:\n      high: 2\n      scale:\n      integer:\n",
        ["7:7 EMPTY", "9:7 EMPTY", "10:7 EMPTY"],
    ),
    "a misspelt name": (HEAD + "replicate: 3\nsets: [{a: 1}]\n", ["3:1 UNKNOWN"]),
    "a name twice": (HEAD + "sets: [{a: 1}]\nmodel: m.s\n", ["4:1 DUPLICATE_KEY"]),
    "a parameter twice": (HEAD + "grid:\n  a: [1]\n  a: [2]\n", ["5:3 DUPLICATE_KEY"]),
    "NaN": (HEAD + "sets:\n- {a: .nan}\n- {a: 1}\n- {a: -.inf}\n", ["4:7 PARAMETER", "6:7 PARAMETER"]),
    "NaN inside": (HEAD + "grid:\n  a:\n  - [1, .nan]\n", ["5:5 PARAMETER"]),
    "a date": (HEAD + "sets: [{a: 2020-01-01}]\n", ["3:12 TYPE"]),
    "a number as a name": (HEAD + "sets: [{1: 2}]\n", ["3:9 TYPE"]),
    "a merge key": (HEAD + "sets:\n- &a {x: 1}\n- {<<: *a, y: 2}\n", ["5:4 TYPE"]),
    "duplicate sets": (HEAD + "sets:\n- {a: 1, b: 2}\n- {b: 2, a: 1}\n", ["5:3 DUPLICATE_SET"]),
    "duplicate seeds": (
        HEAD + "sets:\n- {params: {a: 1}, seed: 1}\n- {params: {a: 1}}\n- {params: {a: 1}, seed: 1}\n",
        ["6:3 DUPLICATE_SET"],
    ),
    "a value twice in a grid": (HEAD + "grid: {a: [1, 2, 1]}\n", ["3:7 DUPLICATE_SET"]),
    "more integers than there are": (
        HEAD + "sobol:\n  n: 64\n  parameters: {k: {low: 1, high: 3, integer: true}}\n",
        ["4:3 DUPLICATE_SET"],
    ),
    "a set that is no mapping": (HEAD + "sets: [1, {a: 1}]\n", ["3:8 TYPE"]),
    "a negative seed": (HEAD + "sets:\n- {params: {a: 1}, seed: -1}\n", ["4:26 SEED"]),
    "a seed over uint64": (HEAD + f"sets:\n- {{params: {{a: 1}}, seed: {2**64}}}\n", ["4:26 SEED"]),
    "low above high": (HEAD + "grid: {a: {low: 2, high: 1, num: 3}}\n", ["3:17 BOUNDS"]),
    "low equals high": (HEAD + "grid: {a: {low: 1, high: 1, num: 3}}\n", ["3:17 BOUNDS"]),
    "log of nothing": (HEAD + "grid: {a: {low: 0, high: 1, num: 3, scale: log}}\n", ["3:17 BOUNDS"]),
    "infinite bound": (HEAD + "grid: {a: {low: 0, high: .inf, num: 3}}\n", ["3:26 BOUNDS"]),
    "a bound of text": (HEAD + "grid: {a: {low: 0, high: '1', num: 3}}\n", ["3:26 TYPE"]),
    "a bound of truth": (HEAD + "grid: {a: {low: false, high: 1, num: 3}}\n", ["3:17 TYPE"]),
    "no bound": (HEAD + "grid: {a: {high: 1, num: 3}}\n", ["3:11 MISSING"]),
    "one grid point": (HEAD + "grid: {a: {low: 0, high: 1, num: 1}}\n", ["3:34 RANGE"]),
    "a scale": (HEAD + "grid: {a: {low: 1, high: 2, num: 3, scale: ln}}\n", ["3:44 VALUE"]),
    "a scalar axis": (HEAD + "grid: {a: 1}\n", ["3:11 TYPE"]),
    "no points": (HEAD + "sobol: {n: 0, parameters: {a: {low: 0, high: 1}}}\n", ["3:12 RANGE"]),
    "points of text": (HEAD + "sobol: {n: many, parameters: {a: {low: 0, high: 1}}}\n", ["3:12 TYPE"]),
    "no parameters": (HEAD + "sobol: {n: 4}\n", ["3:8 MISSING"]),
    "a fixed value in a sample": (HEAD + "sobol: {n: 4, parameters: {a: 1}}\n", ["3:31 TYPE"]),
    "whole bounds": (
        HEAD + "sobol: {n: 2, parameters: {a: {low: 0.5, high: 3, integer: true}}}\n",
        ["3:37 BOUNDS"],
    ),
    "a duplicate among other slips": (
        HEAD + "replicates: 0\nsets: [{a: 1}, {a: 1}]\n",
        ["3:13 RANGE", "4:16 DUPLICATE_SET"],
    ),
    "a duplicate beside NaN": (
        HEAD + "sets:\n- {a: .nan}\n- {a: 1}\n- {a: 2}\n- {a: 1}\n",
        ["4:7 PARAMETER", "7:3 DUPLICATE_SET"],
    ),
    "a value twice beside infinity": (
        HEAD + "grid: {a: [1, 1], b: [2, .inf]}\n",
        ["3:7 DUPLICATE_SET", "3:26 PARAMETER"],
    ),
    "fixed and swept": (HEAD + "fixed: {a: 1}\ngrid: {a: [1, 2]}\n", ["3:12 CHOICE"]),
    "no replicates": (HEAD + "replicates: 0\nsets: [{a: 1}]\n", ["3:13 RANGE"]),
    "replicates of truth": (HEAD + "replicates: true\nsets: [{a: 1}]\n", ["3:13 TYPE"]),
    "too many tasks": (
        HEAD + "replicates: 1000000\ngrid: {a: {low: 0, high: 1, num: 1000}}\n",
        ["4:7 TOO_LARGE"],
    ),
    "too many sets": (
        HEAD + "grid: {a: {low: 0, high: 1, num: 9999}, b: {low: 0, high: 1, num: 9999}}\n",
        ["3:7 TOO_LARGE"],
    ),
    "no import path": (
        "model: sir\nscenario: Base line\nsets: [{a: 1}]\n",
        ["1:8 ENTRYPOINT", "2:11 ENTRYPOINT"],
    ),
    "no model": ("scenario: a\nsets: [{a: 1}]\n", ["1:1 MISSING"]),
    "all of it": ("entrypoint: m.s/a\nmodel: m.s\nsets: [{a: 1}]\n", ["2:8 CHOICE"]),
    "a name for no folder": ("name: ../x\n" + HEAD + "sets: [{a: 1}]\n", ["1:7 NAME"]),
    "aliases that explode": (
        HEAD
        + "metadata:\n  a0: &a0 [x]\n"
        + "".join(f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
        + "sets: [{a: 1}]\n",
        ["1:1 SYNTAX"],
    ),
    "a mapping with a tag": (
        HEAD + "sets: [{a: !!set {b, c}}]\n",
        ["3:12 TYPE", "3:19 YAML_EMPTY", "3:22 YAML_EMPTY"],
    ),
    "an anchor in itself": (HEAD + "metadata: {a: &x [*x]}\nsets: [{a: 1}]\n", ["3:19 SYNTAX"]),
    "an alias of nothing": (HEAD + "sets: [{a: *x}]\n", ["3:12 SYNTAX"]),
    "a control character": (HEAD + "sets: [{a: \x07}]\n", ["3:12 SYNTAX"]),
    "a name beside params": (
        HEAD + "sets:\n- {params: {a: 1}, seed: 5, label: low}\n- {params: {a: 2}, replicates: 3}\n",
        ["4:29 UNKNOWN", "5:20 UNKNOWN"],
    ),
    "params misspelt": (
        HEAD + "sets:\n- {parameters: {a: 1}, seed: 7}\n- {Param: {a: 2}, replicates: 3}\n",
        ["4:4 UNKNOWN", "5:4 UNKNOWN"],
    ),
    "params without any": (HEAD + "sets:\n- params:\n  seed: 7\n", ["4:3 EMPTY"]),
    "depth that explodes": (HEAD + "sets: " + "[" * 20_000 + "\n", ["1:1 SYNTAX"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_spec(findings, case):
    text, expected = BAD[case]
    assert findings(text) == expected


@pytest.mark.parametrize("case", BAD)
def test_findings_are_the_same_without_libyaml(findings, case, monkeypatch):
    monkeypatch.setattr(nodes, "YAML_LOADER", yaml.SafeLoader)
    text, expected = BAD[case]
    assert findings(text) == expected


def test_all_findings_at_once_with_what_to_write(load):
    with pytest.raises(BadInput) as caught:
        load("modle: m.s\nscenario: a\nreplicates: 0\ngrid:\n  a: {low: 1, high: 0, num: 2}\n")
    text = str(caught.value)
    for part in ("did you mean model?", "model is missing", "from 1 to", "not below high"):
        assert part in text


def test_what_is_empty_is_said_with_what_to_write(load):
    with pytest.raises(BadInput) as caught:
        load(HEAD + "replicates:\ngrid:\n")
    said = [line.partition("sir.yaml:")[2] for line in str(caught.value).splitlines()]
    assert said == [
        "3:1  EMPTY  replicates is empty; write a whole number, 1 or more, or remove it",
        "4:1  EMPTY  grid is empty; write names and values below it",
    ]


def test_positions_in_json(findings):
    sets = '[\n  {"a": 1},\n  {"a": NaN},\n  {"a": 1}\n ]'
    text = f'{{\n "model": "m.s",\n "scenario": "a",\n "parameter_sets": {sets}\n}}'
    assert findings(text, "a.json") == ["6:9 PARAMETER", "7:3 DUPLICATE_SET"]
    assert findings(text.replace("NaN", "2"), "a.json") == ["7:3 DUPLICATE_SET"]
    assert findings(text.replace('"a": 1}', '"a": 1, "a": 2}', 1).replace("NaN", "7"), "a.json") == [
        "1:1 DUPLICATE_KEY"
    ]
    assert findings('{"model": "m.s",}', "a.json")[0].endswith("SYNTAX")
    assert findings(text.replace("NaN", "7").replace("model", "modle"), "a.json") == [
        "1:1 MISSING",
        "2:2 UNKNOWN",
        "7:3 DUPLICATE_SET",
    ]


@pytest.mark.parametrize(
    "text, place, bracket",
    [
        ('{\n "model": "m.s",\n "scenario": "a",\n}', "3:17", "}"),
        ('{"parameter_sets": [\n  {"a": 1},\n  {"a": 2} ,  \n ]}', "3:12", "]"),
        ('{"parameter_sets": [{"a": 1,}]}', "1:28", "}"),
    ],
)
def test_a_comma_too_many_in_json_is_named(load, text, place, bracket):
    with pytest.raises(BadInput) as caught:
        load(text, "a.json")
    said = f"a.json:{place}  SYNTAX  remove the comma before {bracket}; nothing follows it"
    assert str(caught.value).endswith(said)


def test_no_comma_is_blamed_for_other_slips_in_json(load):
    for text, place in (('{"model": "m.s"\n "scenario": "a"}', "2:2"), ('{"model": ,}', "1:11"), ("", "1:1")):
        with pytest.raises(BadInput, match=f"a.json:{place}  SYNTAX  Expecting "):
            load(text, "a.json")


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_unreadable(tmp_path, name):
    with pytest.raises(BadInput, match=re.escape(str(tmp_path))):
        spec.load(tmp_path / name)


# the schema


def test_schema_and_code_know_the_same_names():
    Draft7Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(spec.NAMES)
    for name, part in SCHEMA["properties"].items():
        assert part["description"], name


STRUCTURAL = ("EMPTY", "UNKNOWN", "CHOICE", "MISSING", "RANGE", "VALUE", "ENTRYPOINT", "NAME")


@pytest.mark.parametrize(
    "case", [c for c, (_, found) in BAD.items() if any(f.split()[1] in STRUCTURAL for f in found)]
)
def test_schema_refuses_what_the_code_refuses(case):
    if case in ("fixed and swept", "params misspelt", "params without any"):
        pytest.skip("a schema cannot compare names")
    value = YAML(typ="safe").load(BAD[case][0])
    assert not Draft7Validator(SCHEMA).is_valid(value)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("study*.yaml")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_schema_and_code_accept_the_examples(path):
    Draft7Validator(SCHEMA).validate(YAML(typ="safe").load(path.read_text()))
    assert spec.load(path).n_sets > 0


def test_every_code_is_documented():
    docs = (ROOT / "docs" / "study-findings.md").read_text()
    table = re.findall(r"^\| `([A-Z_]+)` \|", docs, re.MULTILINE)
    folder = ROOT / "engine" / "modelops_dask" / "plan"
    code = "".join(
        (folder / f"{name}.py").read_text()
        for name in ("document", "explicit", "fields", "modelops_files", "program", "scalars", "spec")
    )
    code += (folder.parent / "study" / "calls.py").read_text()  # of functions that are called by name
    words = {"TRUE", "FALSE", "NULL", "YAML_", "MODELOPS_"}
    assert set(table) == set(re.findall(r'"([A-Z][A-Z_]+)"', code)) - words
