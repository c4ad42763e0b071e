"""`values check`: every bad file has its findings at their places, at once, and no good file has any."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from helm_programs import BOTH_HELMS, CHART, template
from modelops_dask.plan import spec
from mops_helm.main import main
from mops_helm.values import findings, layers
from mops_helm.values.check import check
from mops_helm.values.explain import explain

ROOT = Path(__file__).resolve().parents[2]
BAD = sorted((ROOT / "tests" / "bad").glob("*.yaml"))
GOOD = sorted((ROOT / "tests" / "good").glob("*.yaml"))
# What the chart itself refuses: its schema, or modelops-dask.check.
CHART_REFUSES = {
    *(
        "NULL",
        "UNKNOWN_NAME",
        "MISSING_NAME",
        "WRONG_TYPE",
        "NOT_ALLOWED",
        "OUT_OF_RANGE",
        "BAD_FORMAT",
        "QUANTITY",
    ),
    *(
        "MEMORY_UNIT",
        "CHILD_MEMORY",
        "REQUEST_OVER_LIMIT",
        "AUTOSCALING_ORDER",
        "ENV_LIST",
        "ENV_VALUE_AND_FROM",
    ),
    *("ENV_OWNED", "PRESET_BINDING", "YAML_SYNTAX", "YAML_TAB", "NOT_A_MAP", "NOT_UTF8", "DASK_DOTTED_KEY"),
    *("STUDY", "YAML_SEXAGESIMAL", "VOLUME_TAKEN", "VOLUME_MISSING", "STORE_PLACE"),
}

NULL_IN_DASK = (
    "null-in-dask"  # helm removes a null before the chart sees it, and dask.config may lack any name
)


def expected(path: Path) -> list[str]:
    return re.findall(r"^# expect (.+)$", path.read_text(errors="replace"), re.MULTILINE)


def found(path: Path) -> list[findings.Finding]:
    return check(layers.stack((), [path], ()))


def test_there_are_enough_bad_files_and_every_code_has_one():
    assert len(BAD) >= 40
    seen = {line.split()[1] for path in BAD for line in expected(path)}
    elsewhere = {"FILE_UNREADABLE", "TOO_LARGE", "SET_SYNTAX"}  # no file can show these; tested below
    assert seen | elsewhere == set(findings.CODES)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_file(path):
    assert expected(path), f"{path.name} expects nothing"
    assert [f"{f.line}:{f.column} {f.code}" for f in found(path)] == expected(path)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_finding_says_what_to_write_instead(path):
    for finding in found(path):
        assert finding.file == str(path)
        assert finding.message
        assert finding.suggestion or finding.code in ("WRONG_TYPE", "QUANTITY", "NOT_A_MAP", "NOT_UTF8"), (
            finding
        )


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_file(path):
    assert found(path) == []


@BOTH_HELMS
@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_helm_renders_every_good_file(helm, path):
    done = template(helm, CHART, "-f", path)
    assert done.returncode == 0, done.stderr


@BOTH_HELMS
@pytest.mark.parametrize(
    "path",
    [
        path
        for path in BAD
        if {line.split()[1] for line in expected(path)} & CHART_REFUSES and path.stem != NULL_IN_DASK
    ],
    ids=lambda path: path.stem,
)
def test_helm_refuses_what_the_chart_can_judge(helm, path):
    assert template(helm, CHART, "-f", path).returncode != 0


def test_the_command_prints_every_finding_and_exits_2():
    path = ROOT / "tests" / "bad" / "many-at-once.yaml"
    done = CliRunner().invoke(main, ["values", "check", str(path)])
    assert done.exit_code == 2
    lines = done.stdout.splitlines()
    assert lines == [str(finding) for finding in found(path)]
    assert lines[1].startswith(f"{path}:8:21  MEMORY_UNIT  workers.memoryPerProcess: 4GB: ")
    assert "write 4Gi (2^30 bytes) or 4G (10^9 bytes)" in lines[1]
    assert "5 errors" in done.stderr


def test_json_has_the_same_fields():
    path = ROOT / "tests" / "bad" / "many-at-once.yaml"
    done = CliRunner().invoke(main, ["values", "check", str(path), "-o", "json"])
    assert done.exit_code == 2
    rows = json.loads(done.stdout)
    assert [findings.Finding(**row) for row in rows] == found(path)


def test_warnings_alone_exit_0(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("executor:\n  forceFreshVenv: yes\n")
    done = CliRunner().invoke(main, ["values", "check", str(path)])
    assert done.exit_code == 0
    assert "YAML_TRUTHY" in done.stdout
    assert "1 warning" in done.stderr


def test_a_file_mode_is_octal_and_meant_so(tmp_path):
    path = tmp_path / "mine.yaml"
    secret = "{name: creds, secret: {secretName: gcs, defaultMode: MODE}}"
    text = f"workers:\n  volumes:\n    - {secret}\n  volumeMounts: [{{name: creds, mountPath: /creds}}]\n"
    for mode, codes in (("0400", []), ("0o644", []), ("256", []), ("0900", ["YAML_OCTAL"])):
        path.write_text(text.replace("MODE", mode))
        assert [finding.code for finding in found(path)] == codes, mode


def test_of_several_files_each_finding_points_at_its_own(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("workers:\n  resources:\n    limits: {memory: 1Gi}\n  replicas: x\n")
    two.write_text("# two\nworkers:\n  resources:\n    requests: {memory: 2Gi}\n  replicas: 2\n")
    merged = check(layers.stack((), [one, two], ["workers.threads=0", "executor.type=warm"]))
    assert [(Path(f.file).name, f.line, f.column, f.code) for f in merged] == [
        ("--set", 1, 1, "OUT_OF_RANGE"),
        ("--set", 2, 1, "NOT_ALLOWED"),
        ("two.yaml", 4, 24, "REQUEST_OVER_LIMIT"),
    ]


def test_an_isolation_preset_over_files_is_checked_with_them(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workers:\n  processes: 8\npools:\n  large:\n    processes: 8\n")
    (finding,) = check(layers.stack(["single-process"], [path], ()))
    assert (finding.file, finding.line, finding.column, finding.code) == (str(path), 5, 16, "PRESET_BINDING")


def test_a_file_that_cannot_be_read(tmp_path):
    codes = [f.code for path in (tmp_path / "none.yaml", tmp_path) for f in found(path)]
    assert codes == ["FILE_UNREADABLE", "FILE_UNREADABLE"]
    done = CliRunner().invoke(main, ["values", "check", str(tmp_path / "none.yaml")])
    assert done.stdout.startswith(f"{tmp_path / 'none.yaml'}  FILE_UNREADABLE  ")


@pytest.mark.parametrize("way", [*spec.SAMPLING_KEYS, "parameter_sets"])
@pytest.mark.parametrize("command", ["check", "explain", "convert"])
def test_a_study_is_said_to_be_one(command, way, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"scenario: baseline\nmodel: models.sir\nreplicates: 3\n{way}: {{}}\n")
    done = CliRunner().invoke(main, ["values", command, str(path)])
    said = f"{path}:1:1  STUDY  this is a study, not values; mops-helm study plan {path} reads it"
    assert done.exit_code == 2
    assert (done.stdout if command == "check" else done.stderr) == said + "\n"


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_text("# " + "x" * (1 << 20))
    assert [f.code for f in found(path)] == ["TOO_LARGE"]


@pytest.mark.parametrize("name", ["alias-bomb", "depth-bomb", "depth-bomb-block", "long-number"])
def test_bombs_end(name):
    path = ROOT / "tests" / "bad" / f"{name}.yaml"
    command = [sys.executable, "-m", "mops_helm.main", "values", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\n") == 1


PIECES = [
    *(
        b"null",
        b"[]",
        b"{}",
        b"yes",
        b"0",
        b"-1",
        b"1e9",
        b"&a",
        b"*a",
        b": ",
        b"\n",
        b"  ",
        b"- ",
        b"<<: *a",
        b"9" * 30,
    ),
    *(b".5", b"~", b"1Gi", b"\xff", b"!!str ", b"|\n", b"?", b"%", b"0x1", b"010", b'"'),
]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A values file after a few accidents of editing."""
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        lines = data.split(b"\n")
        line = rng.randrange(len(lines))
        accident = rng.randrange(4)
        if accident == 0:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        elif accident == 1:
            data = data[:at] + data[at + rng.randrange(12) :]
        elif accident == 2:
            data = b"\n".join([*lines[:line], lines[line], *lines[line:]])
        else:
            lines[line] = lines[line].split(b":")[0] + b": " + rng.choice(PIECES)
            data = b"\n".join(lines)
    return data


def test_no_accident_of_editing_ends_in_a_traceback(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    texts = [
        path.read_bytes()
        for path in [*GOOD, *BAD, *(ROOT / "values").glob("*.yaml")]
        if "bomb" not in path.stem
    ]
    path = tmp_path / "mine.yaml"
    for _ in range(150):
        path.write_bytes(mutated(rng, rng.choice(texts)))
        named = rng.choice([[], ["simulation"], ["single-process"], ["single-process", "simulation"]])
        merged = layers.stack(named, [path], ["workers.threads=2"])
        known = check(merged)
        assert known == sorted(known, key=lambda f: (f.file, f.line, f.column, f.code))
        if not findings.errors(known):
            assert explain(merged.values).pools


def test_a_number_beyond_all_memory_is_a_finding(tmp_path):
    path = tmp_path / "huge.yaml"
    path.write_text("workers:\n  memoryPerProcess: 1e+90\n")
    ((line, code),) = [(one.line, one.code) for one in found(path)]
    assert (line, code) == (2, "QUANTITY")


def test_wide_files_end(tmp_path):
    path = tmp_path / "wide.yaml"
    path.write_text(
        "workers:\n  env:\n" + "".join(f"    K{n}: {{valueFrom: 1}}\n    K{n}: 2\n" for n in range(10_000))
    )
    assert len(found(path)) == 10_000


def test_the_table_of_codes_is_the_code():
    text = (ROOT / "docs" / "values-findings.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| (error|warning) \|", text, re.MULTILINE))
    assert rows == findings.CODES, "describe each code in schemas/findings.yaml; run: make generate"


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [("3", 'write a version from 3.9 on, such as "3.12" or "3.12.4"'), ("3.12", 'quote it: "3.12"')],
)
def test_quotes_are_advised_only_where_they_help(tmp_path, value, suggestion):
    path = tmp_path / "mine.yaml"
    path.write_text(f"executor:\n  python: {value}\n")
    (finding,) = found(path)
    assert (finding.code, finding.suggestion) == ("WRONG_TYPE", suggestion)
