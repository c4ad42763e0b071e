"""`preset list`, `show`, `diff`, `render`."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from helm_programs import ROOT, template
from mops_helm import helm, paths
from mops_helm.main import main
from mops_helm.values import layers, presets

NAMES = [path.stem for path in sorted((ROOT / "values").glob("*.yaml"))]


def run(*arguments, exit_code=0):
    done = CliRunner().invoke(main, ["preset", *map(str, arguments)])
    assert done.exit_code == exit_code, done.output
    return done


def test_list_has_every_file_with_its_kind_and_purpose():
    rows = json.loads(run("list", "-o", "json").stdout)
    assert sorted(row["name"] for row in rows) == NAMES
    for row in rows:
        stated = yaml.safe_load((ROOT / "values" / f"{row['name']}.yaml").read_text())
        assert row["kind"] == ("isolation" if "preset" in stated else "workload")
        assert row["purpose"] in run("list").stdout
    assert [row["kind"] for row in rows] == sorted(row["kind"] for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_docs_have_a_row_for_every_preset(name):
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "presets.md").read_text(), re.MULTILINE)
    assert any(f"`{name}`" in row for row in rows), f"docs/presets.md lacks a row for {name}"


@pytest.mark.parametrize("name", NAMES)
def test_show_prints_the_file(name):
    text = (ROOT / "values" / f"{name}.yaml").read_text()
    assert run("show", name).stdout.rstrip() == text.rstrip()
    shown = yaml.safe_load(run("show", name, "-o", "yaml").stdout)
    assert shown["values"] == yaml.safe_load(text)


def test_diff_has_a_row_for_each_value_that_differs():
    changes = json.loads(run("diff", "baseline", "single-process", "-o", "json").stdout)
    assert changes == [
        {"value": "preset", "baseline": "baseline", "single-process": "single-process"},
        {"value": "workers.processes", "baseline": 4, "single-process": 1},
    ]
    assert "workers.processes  4" in run("diff", "baseline", "single-process").stdout
    assert "give the same values" in run("diff", "cold", "cold").stdout


@pytest.mark.parametrize("command", ["show", "render"])
def test_an_unknown_preset_is_refused_with_the_nearest_name(command):
    assert "did you mean single-process?" in run(command, "singel-process", exit_code=2).stderr


@pytest.mark.parametrize("name", NAMES)
def test_render_is_what_helm_renders_from_the_same_files(name, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("commonLabels: {team: epi}\n")
    preset = ROOT / "values" / f"{name}.yaml"
    order = [path, preset] if presets.find(name).kind == "isolation" else [preset, path]
    plain = template(
        "helm", paths.CHART, "-f", order[0], "-f", order[1], "--set", "workers.replicas=3"
    ).stdout
    assert (
        run("render", name, "-f", path, "--set", "workers.replicas=3", "--release", "probe").stdout == plain
    )
    assert "team: epi" in plain


def test_render_values_are_the_merged_values_and_need_no_helm(monkeypatch, tmp_path):
    monkeypatch.setattr(helm, "find_program", lambda: pytest.fail("helm was asked for"))
    text = run("render", "runner", "--values", "--set", "nameOverride=010,commonLabels.a=yes").stdout
    path = tmp_path / "values.yaml"
    path.write_text(text)
    merged = layers.resolve(["runner"], (), ["nameOverride=010", "commonLabels.a=yes"]).values
    assert layers.resolve((), [path], ()).values == merged
    assert merged["nameOverride"] == "010"
    assert merged["commonLabels"] == {"a": "yes"}


def test_render_refuses_bad_values_with_their_findings(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workers: {replcias: 1}\n")
    done = run("render", "runner", "-f", path, exit_code=2)
    assert f"{path}:1:11  UNKNOWN_NAME" in done.stderr
    assert done.stdout == ""


def test_without_helm_it_says_where_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    done = run("render", "runner", exit_code=5)
    assert "make tools" in done.stderr
    assert done.stdout == ""


def test_helms_own_complaint_is_passed_on(tmp_path):
    with pytest.raises(helm.HelmFailed) as caught:
        helm.template("probe", [tmp_path / "none.yaml"])
    assert "none.yaml" in str(caught.value)
    assert helm.major() == 4


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mops_helm.main import main\n"
        "try: main(['preset', 'render', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('dask', 'numpy', 'jsonschema', 'yaml', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
