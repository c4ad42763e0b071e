"""`study new`: what it writes, what it refuses, and that its model runs."""

import importlib
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from modelops_dask.executors.functions import make_wire
from modelops_dask.store.tables import as_table
from mops_helm.commands.study_new import new
from mops_helm.main import main


def invoke(*args: object):
    return CliRunner().invoke(main, ["study", "new", *map(str, args)])


def test_lists_its_files_and_the_next_commands(tmp_path):
    folder = tmp_path / "measles"
    result = CliRunner().invoke(new, [str(folder)])
    assert result.exit_code == 0, result.output
    assert [Path(line).name for line in result.stdout.splitlines()] == sorted(
        path.name for path in folder.iterdir()
    )
    assert {"model.py", "pyproject.toml", "study.yaml"} <= {path.name for path in folder.iterdir()}
    assert f"mops-helm study run {folder / 'study.yaml'}" in result.stderr
    assert "mops-helm study results out/measles" in result.stderr


def test_the_next_commands_can_be_pasted_whatever_the_folder_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = invoke("my model").stderr
    assert "\n  mops-helm study run 'my model/study.yaml'\n" in said
    assert "\n  mops-helm study results 'out/my model'\n" in said


def test_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = invoke(tmp_path)
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_refuses_a_file_and_an_unwritable_place(tmp_path):
    file = tmp_path / "notes"
    file.write_text("")
    assert "is a file" in invoke(file).stderr
    below = invoke(file / "study")
    assert below.exit_code == 2 and "Not a directory" in below.stderr


@pytest.fixture
def wire(tmp_path, monkeypatch):
    """The model's function as a runner calls it."""
    folder = tmp_path / "new"
    CliRunner().invoke(new, [str(folder)], catch_exceptions=False)
    monkeypatch.syspath_prepend(str(folder))
    yield make_wire("model.outbreak", importlib.import_module("model").outbreak)
    sys.modules.pop("model", None)


def test_the_model_runs_and_its_seed_decides(wire):
    def run():
        return wire("model.outbreak/baseline", {"r0": 2.0, "population": 1000}, 3)

    outputs = run()
    assert outputs == run()
    summary = as_table(outputs["summary"]).to_pylist()[0]
    cases = as_table(outputs["generations"])["cases"].to_pylist()
    assert summary == {"total_cases": sum(cases), "generations": len(cases) - 1}
    assert 1 <= sum(cases) <= 1000


def test_vaccination_protects(wire):
    def total(scenario: str) -> int:
        runs = [wire(f"model.outbreak/{scenario}", {"r0": 2.5}, seed) for seed in range(40)]
        return sum(as_table(run["summary"])["total_cases"][0].as_py() for run in runs)

    assert total("vaccinated") < total("baseline") / 2
