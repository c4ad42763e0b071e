"""Findings on a terminal show the source line and a caret, and `explain` prints what docs say of a code."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from modelops_dask.documents.findings import Finding
from modelops_dask.plan import document
from mops_helm import codes
from mops_helm.main import main
from mops_helm.render.findings import SHOWN_WIDTH, render_findings
from mops_helm.values import findings, layers
from mops_helm.values.check import check
from study_helpers import COMMAND, environ, type_on_terminal

ROOT = Path(__file__).resolve().parents[2]
BAD = sorted((ROOT / "tests" / "bad").glob("*.yaml"))


def test_values_check_points_at_the_fault_on_a_terminal_and_nowhere_else(tmp_path):
    (tmp_path / "mine.yaml").write_text("workers:\n  memoryPerProcess: 4g\n")
    lines = type_on_terminal("values", "check", "mine.yaml", cwd=tmp_path).splitlines()
    assert lines[0].startswith("mine.yaml:2:21  MEMORY_UNIT  ")
    assert lines[1:3] == ["  2 |   memoryPerProcess: 4g", "    |                     ^^"]
    piped = subprocess.run(
        [*COMMAND, "values", "check", "mine.yaml"], cwd=tmp_path, env=environ(tmp_path), capture_output=True
    )
    assert piped.stdout.decode() == lines[0] + "\n"


def test_a_bad_study_file_points_at_its_faults_too(tmp_path):
    (tmp_path / "study.yaml").write_text("entrypoint: m.s/a\ngrid: {x: [1, 2]}\nreplicats: 3\n")
    shown = type_on_terminal("study", "plan", "study.yaml", cwd=tmp_path)
    assert "\n  3 | replicats: 3\n    | ^^^^^^^^^\n" in shown


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_caret_is_under_the_column_of_each_finding(path):
    source_lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    for finding in check(layers.stack((), [path], ())):
        text, shown, carets = render_findings([finding], on_terminal=True).split("\n")
        assert text == str(finding)
        margin = f"  {finding.line} | "
        assert shown.startswith(margin) and carets.index("^") >= len(margin)
        source_line = source_lines[finding.line - 1].expandtabs(1)
        if len(source_line) <= SHOWN_WIDTH and source_line.isprintable():
            assert shown == margin + source_line
            assert carets.index("^") == len(margin) + finding.column - 1


@pytest.mark.parametrize(
    ("line", "column", "marked"),
    [
        ("memoryPerProcess: 4g", 19, "4g"),
        ("memoryPerProcess: 4 GiB  # much", 19, "4 GiB"),
        ("{memory: 4g, cpu: 2}", 10, "4g"),
        ("{cpu: 2, memory: 4g}", 18, "4g"),
        ('name: "a b\\" c" # d', 7, '"a b\\" c"'),
        ("name: 'it''s'", 7, "'it''s'"),
        ("image: ghcr.io/a:b", 8, "ghcr.io/a:b"),
        ("replcias: 4", 1, "replcias"),
        ("env: {}", 6, "{"),
        ("\tx: 1", 1, "\t"),
        ("x:", 3, ""),
        ("日本: 4g", 5, "4g"),
    ],
)
def test_carets_mark_the_whole_value(line, column, marked, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"{line}\n")
    finding = Finding(str(path), 1, column, "CODE", "wrong")
    _, shown, carets = render_findings([finding], on_terminal=True).split("\n")
    assert carets.count("^") == max(1, len(marked))
    n_wide = line[: column - 1].count("日") + line[: column - 1].count("本")
    assert carets.index("^") - len("  1 | ") == column - 1 + n_wide
    assert shown == f"  1 | {line}".replace("\t", " ")


def test_a_long_line_is_cut_around_the_fault_and_runs_nothing(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("\x1b[2J" + "x" * 5000 + " 4g " + "y" * 5000)
    finding = Finding(str(path), 1, 5006, "CODE", "wrong")
    _, shown, carets = render_findings([finding], on_terminal=True).split("\n")
    assert (
        len(shown) < SHOWN_WIDTH + 20 and shown[carets.index("^") :][: carets.count("^")] == "4g " + "y" * 47
    )
    start = render_findings([Finding(str(path), 1, 1, "CODE", "wrong")], on_terminal=True)
    assert "\x1b" not in start


@pytest.mark.parametrize("finding", [("none.yaml", 3, 1), ("--set", 1, 1), ("", 0, 0), (".", 1, 1)])
def test_a_finding_without_a_file_is_one_line(finding, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "\n" not in render_findings([Finding(*finding, "CODE", "wrong")], on_terminal=True)


def test_a_file_that_is_shorter_now_shows_no_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("x: 1\n")
    assert "\n" not in render_findings([Finding(str(path), 9, 1, "CODE", "wrong")], on_terminal=True)


# explain


def list_study_codes() -> set[str]:
    """The codes that the reader of study files names in its code."""
    folder = ROOT / "engine" / "modelops_dask"
    sources = [*(folder / "plan").glob("*.py"), folder / "study" / "calls.py"]
    text = "\n".join(path.read_text() for path in sources)
    words = set(re.findall(r'"([A-Z][A-Z_]{3,})"', text))
    return {word for word in words - {"TRUE", "FALSE", "NULL"} if not word.endswith("_")}


def test_every_code_is_explained_and_no_other():
    docs = codes.load_codes()
    assert {doc.code for doc in docs if doc.kind == "values"} == set(findings.CODES)
    assert {doc.code for doc in docs if doc.kind == "study"} == list_study_codes()
    assert set(document.WARNINGS) <= list_study_codes()
    assert [doc.code for doc in docs if not doc.meaning.endswith(".")] == []


def test_every_code_of_verify_is_explained_and_in_the_docs():
    explained = {doc.code for doc in codes.load_codes() if doc.kind == "store"}
    sources = (ROOT / "engine" / "modelops_dask" / "store").glob("verify*.py")
    reported = set(re.findall(r'\badd\(\s*"([A-Z_]{3,})"', "\n".join(path.read_text() for path in sources)))
    rows = re.findall(r"^\| ([A-Z_, ]{3,}) \| .* \|$", (ROOT / "docs/checks.md").read_text(), re.MULTILINE)
    assert {code for row in rows for code in row.split(", ")} == explained
    assert reported <= explained, reported - explained
    text = CliRunner().invoke(main, ["explain", "torn"]).stdout
    assert text.startswith("TORN: an error in a store (study verify)\n") and "docs/checks.md" in text


def test_explain_prints_what_docs_say_of_a_code():
    shown = CliRunner().invoke(main, ["explain", "memory_unit"])
    assert shown.exit_code == 0 and shown.stdout.startswith("MEMORY_UNIT: an error in a values file\n")
    (row,) = re.findall(
        r"\| `MEMORY_UNIT` \| error \| (.*) \|", (ROOT / "docs/values-findings.md").read_text()
    )
    meaning, example = row.split(" | ")
    assert meaning in " ".join(shown.stdout.split()) and f"Example: {example}" in shown.stdout


def test_a_code_of_both_kinds_of_file_is_explained_for_each():
    shown = CliRunner().invoke(main, ["explain", "YAML_OCTAL", "-o", "json"])
    assert [row["kind"] for row in json.loads(shown.stdout)] == ["values", "study"]
    text = CliRunner().invoke(main, ["explain", "NOT_A_STUDY"]).stdout
    assert "what to do with it." in text and "](" not in text


def test_an_unknown_code_is_refused_with_the_near_one():
    near = CliRunner().invoke(main, ["explain", "QUANTTY"])
    assert near.exit_code == 2 and "did you mean QUANTITY?" in near.stderr
    listed = CliRunner().invoke(main, ["explain", "XYZ"])
    assert listed.exit_code == 2 and "`mops-helm explain` lists all codes" in listed.stderr
    everything = CliRunner().invoke(main, ["explain", "-o", "json"])
    assert len(json.loads(everything.stdout)) == len(codes.load_codes())


def test_the_command_that_values_check_names_explains_its_first_finding():
    done = CliRunner().invoke(main, ["values", "check", str(ROOT / "tests" / "bad" / "many-at-once.yaml")])
    command = done.stderr.splitlines()[0].partition(": mops-helm ")[2].split()
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 0 and command[1] in done.stdout and command[1] in shown.stdout
