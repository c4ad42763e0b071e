"""Files in the form that ModelOps' tools write: each runs as it is, or is refused with what to do."""

import json
import re
from pathlib import Path

import pytest

from modelops_dask.errors import BadInput
from modelops_dask.plan import modelops_files, spec
from modelops_dask.plan.duration import format_limit, parse_duration

PAGE = (Path(__file__).parents[2] / "docs" / "modelops.md").read_text()
SETS = [{"params": {"beta": 0.25, "days": 30}}, {"params": {"beta": 0.5, "days": 30}}]
STUDY = {
    "model": "models.flu",
    "scenario": "baseline",
    "parameter_sets": SETS,
    "sampling_method": "sobol",
    "n_replicates": 3,
    "outputs": None,
    "metadata": {"n_samples": 2, "scramble": True, "seed": 42, "model_class": "models.flu:Flu"},
}
TASK = {
    "entrypoint": "models.flu/baseline",
    "bundle_ref": "sha256:" + "0" * 64,
    "params": {"param_id": "0" * 64, "values": {"beta": 0.25}},
    "seed": 42,
    "outputs": ["prevalence"],
    "config": None,
}
JOB = {"job_id": "job-0123abcd", "bundle_ref": "flu-v1", "priority": 0, "resource_requirements": None}
CALIBRATION = {
    "model": "models.flu",
    "scenario": "baseline",
    "algorithm": "optuna",
    "target_data": {"observed_file": "data.csv", "target_ids": ["incidence"]},
    "max_iterations": 100,
    "convergence_criteria": {},
    "algorithm_config": {"parameter_specs": {"beta": {"lower": 0.1, "upper": 0.5}}},
    "outputs": None,
    "metadata": {},
}
REGISTRY = """\
version: '1.0'
models:
  flu:
    entrypoint: models.flu:Flu
    path: models/flu.py
    class_name: Flu
    scenarios: [baseline]
targets:
  incidence: {path: targets/incidence.py, entrypoint: targets.incidence:score, model_output: incidence}
"""
OTHERS = {
    "CalibrationSpec": CALIBRATION,
    "CalibrationJob": JOB | {"job_type": "calibration", "algorithm": "optuna", "target_spec": {}},
    "SimJob": JOB | {"job_type": "simulation", "tasks": [TASK]},
    "SimJob of before": JOB | {"batches": [{"batch_id": "sobol-1", "tasks": [TASK]}]},
    "bundle registry": REGISTRY,
    "bundle manifest": {"schema": 1, "bundle_id": "0" * 64, "models": {}, "abi": "model-entrypoint@1"},
    "workspace": "apiVersion: modelops/v1\nkind: Workspace\nspec: {workers: {replicas: 2}}\n",
    "adaptive infrastructure": "algorithm: optuna\ncentral_store: {kind: postgres}\nworkers: {}\n",
}


def write(folder, content, name="sweep"):
    path = folder / f"{name}.{'yaml' if isinstance(content, str) else 'json'}"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def warnings(folder, **changes):
    """The warnings of a study JSON by code."""
    loaded = spec.load(write(folder, {**STUDY, **changes}))
    return {finding.code: finding.message for finding in loaded.warnings}


def test_a_study_json_runs_and_its_time_limit_gets_a_line(tmp_path):
    loaded = spec.load(write(tmp_path, STUDY))
    assert (loaded.entrypoint, loaded.n_tasks, loaded.outputs) == ("models.flu/baseline", 6, ())
    assert set(warnings(tmp_path)) == {"TIME_LIMIT"} and "1800" in warnings(tmp_path)["TIME_LIMIT"]


def test_sets_without_params_are_the_same_tasks(tmp_path):
    flat = STUDY | {"parameter_sets": [each["params"] for each in SETS]}
    table, flat_table = (spec.load(write(tmp_path, content)).table for content in (STUDY, flat))
    assert table.equals(flat_table)


def test_outputs_and_timeout_are_honoured(tmp_path):
    loaded = spec.load(write(tmp_path, STUDY | {"outputs": ["prevalence", "summary"], "timeout": 1800}))
    assert (loaded.outputs, loaded.timeout_seconds) == (("prevalence", "summary"), 1800)
    request = loaded.request(((0, 2),))
    assert (request.outputs, request.timeout_seconds) == (("prevalence", "summary"), 1800)
    assert warnings(tmp_path, timeout="30m") == {}


def test_targets_and_names_without_effect_get_a_line_each(tmp_path):
    targets = ["targets.flu:score"]
    found = warnings(tmp_path, targets=targets, kind="SimulationStudy", priority=2, timeout=60)
    assert set(found) == {"TARGETS", "NO_EFFECT"} and "kind, priority" in found["NO_EFFECT"]
    assert "tags has no effect;" in warnings(tmp_path, tags=["flu"])["NO_EFFECT"], "far from `targets`"
    with pytest.raises(BadInput, match="did you mean targets"):
        spec.load(write(tmp_path, STUDY | {"target": []}))
    with pytest.raises(BadInput, match="targets must be a list") as caught:
        spec.load(write(tmp_path, STUDY | {"targets": {"a": 1}}))
    assert "TIME_LIMIT" not in str(caught.value), "a file that is refused has only what is wrong"


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS.keys())
def test_other_files_are_named_and_refused(tmp_path, content, request):
    name = request.node.callspec.id.removesuffix(" of before")
    with pytest.raises(BadInput) as caught:
        spec.load(write(tmp_path, content))
    (finding,) = caught.value.findings
    assert finding.code == "NOT_A_STUDY" and f"this is a {name} of ModelOps: " in finding.message
    assert "{file}" not in finding.message


def test_the_page_names_every_file_that_is_refused():
    refused = [line for line in PAGE.splitlines() if "refused (NOT_A_STUDY)" in line]
    for document in modelops_files.OTHER_DOCUMENTS:
        assert any(document.name in line for line in refused), document.name
    assert {each.name for each in modelops_files.OTHER_DOCUMENTS} == {
        name.removesuffix(" of before") for name in OTHERS
    }
    for code in ("TARGETS", "TIME_LIMIT", "NO_EFFECT", "DUPLICATE_SET"):
        assert re.search(rf"\({code}\)", PAGE), code


@pytest.mark.parametrize("name", ["parameter_sets", "sets", "grid"])
def test_a_study_with_a_name_of_another_file_is_a_study(tmp_path, name):
    """Names of other documents do not make one of a study, unless all of them are there."""
    content = {"model": "m.f", "scenario": "b", "metadata": {"job_id": 1, "bundle_ref": 2}}
    content[name] = {"x": [1]} if name == "grid" else [{"job_id": 1, "bundle_ref": 2}]
    assert spec.load(write(tmp_path, content)).n_sets == 1


@pytest.mark.parametrize(
    "value, seconds",
    [(600, 600), (0.5, 0.5), ("600s", 600), ("10m", 600), ("1.5h", 5400), ("2 h", 7200), (" 90s ", 90)],
)
def test_durations_are_read(tmp_path, value, seconds):
    assert parse_duration(value) == seconds
    assert parse_duration(format_limit(seconds)) == seconds
    content = {"model": "m.f", "scenario": "b", "sets": [{"x": 1}], "timeout": value}
    assert spec.load(write(tmp_path, content)).timeout_seconds == seconds


@pytest.mark.parametrize(
    "value", [0, -1, "", "10", "10 mins", "1h30m", True, [1], float("inf"), 10**400, "31m5", 2592001, "800h"]
)
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ValueError, match="such as 600, or text"):
        parse_duration(value)


def test_a_time_of_a_clock_is_told_in_seconds():
    with pytest.raises(ValueError, match="for 12 minutes and 30 seconds write 750"):
        parse_duration("12:30")


def test_in_a_script_a_finding_names_its_field_once(tmp_path):
    content = {"model": "m.f", "scenario": "b", "sets": [{"x": 1}], "timeout": "soon", "replicates": "two"}
    with pytest.raises(BadInput) as caught:
        spec.from_content(content, tmp_path)
    assert sorted(finding.message.split()[:2] for finding in caught.value.findings) == [
        ["replicates:", "replicates"],
        ["timeout:", "'soon'"],
    ]


def test_each_known_name_is_listed_once(tmp_path):
    content = {"model": "m.f", "scenario": "b", "sets": [{"x": 1}], "qwertz": 1}
    with pytest.raises(BadInput, match="expected one of ") as caught:
        spec.load(write(tmp_path, content))
    (finding,) = caught.value.findings
    names = finding.message.partition("expected one of ")[2].split(", ")
    assert len(names) == len(set(names)) and "outputs" in names


@pytest.mark.parametrize("name", ["targets", "max_trials"])
def test_a_calibration_without_target_data_is_one(tmp_path, name):
    content = {"model": "m.f", "scenario": "b", "algorithm": "optuna", name: 3}
    with pytest.raises(BadInput) as caught:
        spec.load(write(tmp_path, content))
    (finding,) = caught.value.findings
    assert finding.code == "NOT_A_STUDY" and "CalibrationSpec" in finding.message


@pytest.mark.parametrize("value", ["table", {"table": "out.csv"}, [1], [""], [], {}])
def test_outputs_that_name_none_are_refused(tmp_path, value):
    content = {"model": "m.f", "scenario": "b", "sets": [{"x": 1}], "outputs": value}
    with pytest.raises(BadInput, match="outputs"):
        spec.load(write(tmp_path, content))
