"""`values check --fix` corrects what can mean one thing only, and leaves every other character as it is."""

import difflib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mops_helm.main import main
from mops_helm.values import layers
from mops_helm.values.check import check

ROOT = Path(__file__).resolve().parents[2]
BAD = sorted((ROOT / "tests" / "bad").glob("*.yaml"))


def type_fix(*words: object) -> Result:
    return CliRunner().invoke(main, ["values", "check", "--fix", *map(str, words)])


@pytest.fixture
def fix(tmp_path):
    """fix(text): the text that --fix leaves of a file, and the result of the command."""

    def run(text: str, *flags: str) -> tuple[str, Result]:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text.encode())
        return path, type_fix(path, *flags)

    return run


BEFORE = (
    "\ufeff# mine\r\n"
    "wrokers:   # pool\r\n"
    "   memoryPerProcess: 4g   # each\r\n"
    '   "replcias": 4\r\n'
    "\r\n"
    "scheduler: {nodeSelector: {n: yes, zone: 1_0}}  # two\r\n"
    "image: {tag: 010}\r\n"
    "dask: {config: {distributed: {schedular: {}}}}\r\n"
)
AFTER = (
    "\ufeff# mine\r\n"
    "workers:   # pool\r\n"
    "   memoryPerProcess: 4Gi   # each\r\n"
    '   "replicas": 4\r\n'
    "\r\n"
    'scheduler: {nodeSelector: {"n": "yes", zone: "1_0"}}  # two\r\n'
    'image: {tag: "010"}\r\n'
    "dask: {config: {distributed: {scheduler: {}}}}\r\n"
)


def test_certain_faults_are_corrected_and_nothing_else_changes(fix):
    path, done = fix(BEFORE)
    assert path.read_bytes().decode() == AFTER
    assert done.exit_code == 0 and done.stderr == ""
    corrected = [line.partition("corrected: ")[2] for line in done.stdout.splitlines()]
    assert sorted(corrected[:-1]) == sorted(
        [
            "wrokers -> workers",
            "4g -> 4Gi",
            '"replcias" -> "replicas"',
            'n -> "n"',
            'yes -> "yes"',
            '1_0 -> "1_0"',
            '010 -> "010"',
            "schedular -> scheduler",
        ]
    )
    assert f"{path}:2:1  UNKNOWN_NAME  corrected: wrokers -> workers" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{path}: ok"


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("4g", "4Gi"),
        ("4GB", "4Gi"),
        ("4 GiB", "4Gi"),
        ("8 gb", "8Gi"),
        ("1.5 Gi", "1.5Gi"),
        ("400m", "400Mi"),
        ('"512mb"', '"512Mi"'),
    ],
)
def test_a_unit_of_memory_becomes_the_binary_one(written, right, fix):
    path, done = fix(f"workers: {{memoryPerProcess: {written}}}\n")
    assert path.read_text() == f"workers: {{memoryPerProcess: {right}}}\n"
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "text",
    [
        "workers: {annotations: {}}\n",  # near tolerations, but no typing error
        "workers: {replcias: 4, replicas: 2}\n",  # the right name is there
        "workers: {replcias: [4]}\n",  # not the type of the right name
        "workers: {env: {COUNTRY: NO}}\n",  # a text or false
        "workers: {memoryPerProcess: 4}\n",  # Gi or Mi
        "workers: {memoryPerProcess: 4x}\n",
        "workers: {resources: {requests: {cpu: 2g}}}\n",
        "executor: {type: warm}\n",
        "workers: {replicas: 010}\n",  # 8 or 10
        "workers: {memoryPerProcess: &size 4g}\npools: {large: {memoryPerProcess: *size}}\n",
        "dask: {config: {distributed: {schedular: {}, scheduler: {}}}}\n",
        "workers: {repliacs: 3, replcias: 4}\n",  # both would be replicas
        'image: {n: 1, "n": 2}\n',  # both would be "n"
        "workers:\n  memoryPerProcess: |\n    4g\n",  # its lines are its own
        "workers: {memoryPerProcess: !!str 4g}\n",
        "&name wrokers: {replicas: 1}\n",
        "spec: {workers: {replicas: 1}}\n",
    ],
)
def test_what_may_mean_two_things_is_left_as_a_finding(text, fix):
    path, done = fix(text)
    assert path.read_text() == text
    assert done.exit_code == 2 and "corrected" not in done.stdout and f"{path}:" in done.stdout
    assert "--fix" not in done.stderr  # it would do nothing again


def test_tabs_between_a_name_and_its_value_are_kept(fix):
    path, done = fix("workers:\n  memoryPerProcess:\t4g\t# each\n  repliacs:\t3\n")
    assert path.read_text() == "workers:\n  memoryPerProcess:\t4Gi\t# each\n  replicas:\t3\n"
    assert done.exit_code == 0, done.output


def test_a_values_file_in_json_stays_json(fix):
    path, _ = fix('{"wrokers": {"memoryPerProcess": "4g"}}\n')
    assert json.loads(path.read_text()) == {"workers": {"memoryPerProcess": "4Gi"}}


def test_a_read_only_file_is_left_alone(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workers: {memoryPerProcess: 4g}\n")
    path.chmod(0o444)
    done = type_fix(path)
    assert done.exit_code == 2 and f"{path} is read-only" in done.output
    assert path.read_text() == "workers: {memoryPerProcess: 4g}\n"


def test_a_file_named_twice_is_corrected_once(tmp_path):
    path, link = tmp_path / "mine.yaml", tmp_path / "link.yaml"
    path.write_text("workers: {memoryPerProcess: 4g}\n")
    link.symlink_to(path.name)
    done = type_fix(path, path, link)
    assert done.exit_code == 0 and path.read_text() == "workers: {memoryPerProcess: 4Gi}\n"
    assert done.stdout.count("corrected: ") == 1 or "4Gi -> 4Gi" not in done.stdout


def test_a_pipe_is_not_corrected():
    command = [sys.executable, "-c", "from mops_helm.main import main; main()"]
    for name in ("-", "/dev/stdin"):
        done = subprocess.run(
            [*command, "values", "check", "--fix", name],
            input="workers: {memoryPerProcess: 4g}\n",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and "--fix" in done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["-n.yaml", "a b$.yaml", "it's.yaml"])
def test_the_advice_of_check_can_be_typed_for_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("workers: {memoryPerProcess: 4g}\n")
    checked = CliRunner().invoke(main, ["values", "check", "--", name])
    done = CliRunner().invoke(main, shlex.split(checked.stderr.splitlines()[-1].partition(": mops-helm ")[2]))
    assert done.exit_code == 0 and Path(name).read_text() == "workers: {memoryPerProcess: 4Gi}\n"


def test_a_file_in_which_nothing_is_corrected_is_not_written(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workers: {replicas: 2}\n")
    before = path.stat()
    done = type_fix(path)
    assert done.exit_code == 0 and done.stdout == f"{path}: ok\n"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_presets_and_flags_are_not_files_to_correct(fix):
    path, done = fix("workers: {replicas: 2}\n", "--preset", "simulation", "--set", "image.tga=x")
    assert done.exit_code == 2 and "corrected" not in done.stdout
    assert "--fix" not in done.stderr  # nor is it advised
    assert path.read_text() == "workers: {replicas: 2}\n"


def test_each_of_several_files_is_corrected(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("workers: {memoryPerProcess: 4g}\n")
    two.write_text("workers: {replcias: 2}\n")
    done = type_fix(one, two)
    assert done.exit_code == 0
    assert (one.read_text(), two.read_text()) == (
        "workers: {memoryPerProcess: 4Gi}\n",
        "workers: {replicas: 2}\n",
    )


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path):
    path, link = tmp_path / "mine.yaml", tmp_path / "link.yaml"
    path.write_text("workers: {memoryPerProcess: 4g}\n")
    path.chmod(0o640)
    link.symlink_to(path.name)
    assert type_fix(link).exit_code == 0
    assert link.is_symlink() and path.read_text().endswith("4Gi}\n") and path.stat().st_mode & 0o777 == 0o640


def test_programs_read_what_was_corrected(fix):
    _, done = fix("workers: {memoryPerProcess: 4g, threads: 0}\n", "-o", "json")
    facts = json.loads(done.stdout)
    assert [(row["line"], row["column"], row["correction"]) for row in facts["corrected"]] == [
        (1, 29, "4g -> 4Gi")
    ]
    assert [row["code"] for row in facts["findings"]] == ["OUT_OF_RANGE"] and done.exit_code == 2


def test_the_command_that_check_names_corrects_as_many_as_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my values.yaml").write_text("workers: {memoryPerProcess: 4g, replcias: 2, threads: 0}\n")
    checked = CliRunner().invoke(main, ["values", "check", "my values.yaml"])
    line = checked.stderr.splitlines()[-1]
    assert line.startswith("To correct 2 of them: mops-helm ")
    done = CliRunner().invoke(main, shlex.split(line.partition(": mops-helm ")[2]))
    assert done.stdout.count("corrected: ") == 2 and "OUT_OF_RANGE" in done.stdout
    assert "--fix" not in done.stderr


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_only_the_lines_of_corrections_change_and_a_second_time_changes_nothing(path, tmp_path):
    copy = tmp_path / path.name
    copy.write_bytes(before := path.read_bytes())
    first = type_fix(copy, "-o", "json")
    assert (first.exit_code in (0, 2) and first.exception is None) or isinstance(first.exception, SystemExit)
    after = copy.read_bytes()
    corrected = json.loads(first.stdout)["corrected"]
    old_lines, new_lines = before.split(b"\n"), after.split(b"\n")
    changed = {n for n, (a, b) in enumerate(zip(old_lines, new_lines, strict=True), 1) if a != b}
    assert changed == {row["line"] for row in corrected}, "\n".join(
        difflib.unified_diff(*([line.decode(errors="replace") for line in x] for x in (old_lines, new_lines)))
    )
    second = type_fix(copy, "-o", "json")
    assert json.loads(second.stdout)["corrected"] == [] and copy.read_bytes() == after
    assert len(check(layers.stack((), [copy], ()))) == len(json.loads(first.stdout)["findings"])
