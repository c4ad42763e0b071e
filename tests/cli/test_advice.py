"""Advice works when it is typed: each message's command or value is used, and the next run gets further."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from modelops_dask.plan import spec
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.study import begin
from mops_helm.main import main
from mops_helm.values import layers
from mops_helm.values.check import check
from store_helpers import DIGEST, attempt
from study_helpers import SMALL, mops_helm, type_on_terminal
from study_helpers import write_spec as write_knobs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELOPS_BUNDLES_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def type_line(line: str) -> Result:
    program, *words = shlex.split(line)
    assert program == "mops-helm"
    return CliRunner().invoke(main, words)


def find_command(text: str) -> str:
    """The command that a message prints on a line of its own."""
    (line,) = [line.strip() for line in text.splitlines() if line.startswith("  mops-helm ")]
    return line


# A study file for a store, and the reverse


def write_study(path: str = "study.yaml", name: str = "waves") -> Path:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(f"name: {name}\nmodel: m.s\nscenario: b\nsets: [{{a: 1}}, {{a: 2}}]\n")
    return Path(path)


def fill_store(path: Path) -> Path:
    """The store that a run of a study file leaves."""
    loaded = spec.load(path)
    files = Store(f"out/{loaded.name}")
    plan = begin(files, loaded, DIGEST)
    rows = list(plan.tasks([(0, plan.absent.size)]))
    outputs = {"y": b"1"}
    parts.write(files, [attempt(plan, row.set, row.replicate, outputs=outputs) for row in rows])
    return Path("out", loaded.name)


@pytest.mark.parametrize("typed", ["study.yaml", "."])
@pytest.mark.parametrize("verb", ["status", "results", "report", "verify"])
def test_a_study_file_typed_for_its_store_leads_to_the_store(verb, typed):
    fill_store(write_study())
    refused = type_line(f"mops-helm study {verb} {typed}")
    assert refused.exit_code == 2 and "study.yaml is a study file, not the store" in refused.stderr
    line = find_command(refused.stderr)
    assert line == f"mops-helm study {verb} out/waves"
    assert type_line(line).exit_code in (0, 3)  # 3: `verify` has something to say


def test_a_study_file_that_was_not_run_leads_to_a_run():
    write_study("my waves/study.yaml")
    refused = type_line("mops-helm study results 'my waves/study.yaml'")
    assert refused.exit_code == 2 and "out/waves has no results of it yet" in refused.stderr
    line = find_command(refused.stderr)
    assert line == "mops-helm study run 'my waves/study.yaml'"
    assert "no bundle found" in type_line(line).stderr  # the study file is read; its model is next


@pytest.mark.parametrize("verb", ["status", "results", "cancel"])
def test_in_the_cluster_a_study_file_leads_to_the_name_of_its_study(verb):
    write_study()
    refused = type_line(f"mops-helm study {verb} study.yaml -n epi --kube-context lab")
    assert refused.exit_code == 2
    assert find_command(refused.stderr) == f"mops-helm study {verb} waves -n epi --kube-context lab"


def test_another_file_typed_for_a_store_is_refused_as_a_file():
    Path("notes.txt").write_text("no study")
    refused = type_line("mops-helm study results notes.txt")
    assert (
        refused.exit_code == 2 and "Name the store of a study's results, such as out/NAME" in refused.stderr
    )


@pytest.mark.parametrize("spec_path", ["study.yaml", "waves/study.yaml", "other.yaml"])
def test_a_store_typed_for_its_study_file_leads_to_the_file(spec_path):
    store = fill_store(write_study(spec_path))
    refused = type_line(f"mops-helm study plan {store}")
    assert refused.exit_code == 2 and "is the store of a study's results" in refused.stderr
    line = find_command(refused.stderr)
    assert line == f"mops-helm study plan {spec_path}"
    assert "tasks       2" in type_line(line).stdout


def test_a_store_whose_study_file_is_not_known_for_certain_names_none():
    store = fill_store(write_study("study.yaml"))
    write_study("copy.yaml")
    refused = type_line(f"mops-helm study plan {store}")
    assert refused.exit_code == 2 and "Name the study file with which it was run" in refused.stderr
    assert "  mops-helm" not in refused.stderr


def test_a_directory_typed_for_a_study_file_leads_to_the_file_in_it():
    write_study("waves/study.yaml")
    refused = type_line("mops-helm study plan waves")
    assert type_line(find_command(refused.stderr)).exit_code == 0
    Path("empty").mkdir()
    assert "empty is a directory. Name a study file" in type_line("mops-helm study plan empty").stderr
    assert "is a URL" in type_line("mops-helm study run s3://bucket/waves").stderr


def test_the_list_of_tasks_that_a_message_names_lists_them(folder):
    path = write_knobs(folder, n=3)
    refused = type_line(f"mops-helm study try {path} --task 9/9 --set executor.environment=image")
    assert refused.exit_code == 2
    (line,) = re.findall(r"\((mops-helm study plan SPEC --list-tasks)\)", refused.stderr)
    listed = type_line(line.replace("SPEC", str(path)))
    assert listed.exit_code == 0 and listed.stderr == "" and len(listed.stdout.splitlines()) == 4


def test_the_command_to_keep_a_table_keeps_it():
    first = fill_store(write_study())
    write_study("later.yaml").write_text("name: waves\nmodel: m.s\nscenario: b\nsets: [{a: 3}]\n")
    fill_store(Path("later.yaml"))
    shown = type_line(f"mops-helm study results {first} --spec study.yaml")
    flags = re.findall(r"To keep one: (.*)", shown.stderr)[0].replace("NAME", "y")
    kept = type_line(f"mops-helm study results {first} --spec study.yaml {flags}")
    assert kept.exit_code == 0 and len(Path("y.csv").read_text().splitlines()) == 3


# Values: what a finding says to write is written in its place


VALUES = {  # what is written, and how often advice must be followed
    "a unit": "workers: {memoryPerProcess: 4GB}\n",
    "a unit after a space": "workers: {memoryPerProcess: 4 GiB}\n",
    "a unit in small letters": "workers: {memoryPerProcess: 8 gb}\n",
    "a thousandth": "workers: {memoryPerProcess: 400m}\n",
    "no unit": "workers: {memoryPerProcess: 4}\n",
    "no unit, of Mi": "workers: {memoryPerProcess: 4096}\n",
    "zero": "workers: {memoryPerProcess: 0}\n",
    "a letter only": "workers: {memoryPerProcess: Gi}\n",
    "quotes of a word processor": "workers: {memoryPerProcess: “2Gi”}\n",
    "other digits": "workers: {memoryPerProcess: ٤Gi}\n",
    "an underscore": "workers: {memoryPerProcess: 4_0Gi}\n",
    "CPUs without m": "workers: {resources: {requests: {cpu: 2000}}}\n",
    "a number of a variable": "workers: {env: {PYTHON_VERSION: 3.10}}\n",
    "a number in base 16": "workers: {env: {HEX: 0xFF}}\n",
    "a word": "workers: {nodeSelector: {gpu: yes}}\n",
    "a word of a variable": "workers: {env: {COUNTRY: NO}}\n",
    "octal": "workers: {replicas: 010}\n",
    "octal text": "image: {tag: 010}\n",
    "an underscore in a number": "workers: {replicas: 1_0}\n",
    "a time": "executor: {taskTimeoutSeconds: 1:30}\n",
    "a duration": "executor: {taskTimeoutSeconds: 5m}\n",
    "truth": "executor: {forceFreshVenv: yes}\n",
    "a number for a text": "image: {tag: 3}\n",
    "a name": "workers: {replcias: 3}\n",
    "a word of several": "executor: {type: isolated_wram}\n",
    "Dask's names": "dask: {config: {distributed: {schedular: {}}}}\n",
    "a key": "workers: {nodeSelector: {n: a}}\n",
}
ADVICE = [
    r"^(?:write|quote it:) (?P<value>\"[^\"]*\"|[^ ,]+)",
    r"^did you mean (?P<value>[^ ?]+)",
    r"^at least (?P<value>\d+)",
    r"^write a size such as (?P<value>\S+)",
]


def follow(text: str, finding) -> str:
    """The file with what the finding says to write, at the place of the finding."""
    advice = next(match for pattern in ADVICE[::-1] if (match := re.match(pattern, finding.suggestion)))
    lines = text.splitlines(keepends=True)
    line = lines[finding.line - 1]
    before, after = line[: finding.column - 1], line[finding.column - 1 :]
    written = re.match(r'"[^"]*"|[^,}:]+(?::\d+)?', after)
    lines[finding.line - 1] = before + advice["value"] + after[written.end() :]
    return "".join(lines)


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_what_a_finding_says_to_write_is_accepted(text, folder):
    path = folder / "mine.yaml"
    path.write_text(text)
    (finding,) = check(layers.stack((), [path], ()))
    path.write_text(follow(text, finding))
    assert check(layers.stack((), [path], ())) == [], path.read_text()


def test_a_number_of_mebibytes_without_its_unit_is_read_as_such(folder):
    path = folder / "mine.yaml"
    for number, advice in (
        (4096, "write 4Gi, which is 4096Mi"),
        (4, "write 4Gi or 4Mi"),
        (100, "write 100Mi"),
    ):
        path.write_text(f"workers: {{memoryPerProcess: {number}}}\n")
        (finding,) = check(layers.stack((), [path], ()))
        assert finding.suggestion == advice


def test_a_name_after_a_space_that_does_not_break_names_the_character(folder):
    path = folder / "mine.yaml"
    path.write_text("workers:\n\u00a0\u00a0replicas: 3\n")
    (finding,) = [f for f in check(layers.stack((), [path], ())) if f.code == "UNKNOWN_NAME"]
    assert finding.suggestion == "replace the no-break space (U+00A0) with a space"
    path.write_text(path.read_text().replace("\u00a0", " "))
    assert check(layers.stack((), [path], ())) == []


def test_a_study_file_with_such_characters_names_them_too():
    path = write_study()
    for text in (path.read_text() + "replicates: “3”\n", path.read_text() + "\u00a0replicates: 3\n"):
        path.write_text(text)
        refused = type_line("mops-helm study plan study.yaml")
        assert re.search(r"replace the .* \(U\+\w{4}\) with", refused.stderr), refused.stderr


def test_a_text_that_set_cannot_hold_is_put_into_a_file():
    flag = r"--set 'workers.nodeSelector.cloud\.google\.com/gke-spot=true'"
    refused = type_line(f"mops-helm preset render simulation --values {flag}")
    assert refused.exit_code == 2
    (text,) = re.findall(r"write it in a values file, for -f: (.*)", refused.stderr)
    Path("mine.yaml").write_text(text)
    rendered = type_line("mops-helm preset render simulation --values -f mine.yaml")
    assert rendered.exit_code == 0 and 'cloud.google.com/gke-spot: "true"' in rendered.stdout


def test_a_file_of_values_that_is_a_study_leads_to_the_command_that_reads_it():
    write_study()
    refused = type_line("mops-helm values check study.yaml")
    (line,) = re.findall(r"(mops-helm study plan \S+) reads it", refused.stdout)
    assert type_line(line).exit_code == 0


# Commands that have a list of what they take


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("mops-helm preset show nosuch", "mops-helm preset list"),
        ("mops-helm explain XYZ", "mops-helm explain"),
    ],
)
def test_the_list_that_a_message_names_is_there(typed, advice):
    refused = type_line(typed)
    assert refused.exit_code == 2 and advice in refused.stderr
    listed = type_line(advice)
    assert listed.exit_code == 0 and listed.stdout


def test_a_study_where_there_is_none_can_be_run_there():
    write_study()
    refused = type_line("mops-helm study status 'out/not here'")
    assert refused.exit_code == 2
    (line,) = re.findall(r"(mops-helm study run .*)", refused.stderr)
    assert line == f"mops-helm study run SPEC --store '{Path('out/not here').resolve()}'"
    planned = type_line(line.replace("study run SPEC", "study plan study.yaml"))
    assert planned.exit_code == 0 and "out/not here" in planned.stdout


# Runs: what the summary or the trial of a task says to type


def test_tasks_that_reached_their_time_limit_are_tried_again_with_a_longer_one(folder, tmp_path_factory):
    marker = tmp_path_factory.mktemp("elsewhere") / "fast"  # not in the bundle, which must stay the same
    Path("waves").mkdir()
    Path("waves/m.py").write_text(
        "import pathlib, time\n"
        "def s(a, marker):\n"
        "    while a == 2 and not pathlib.Path(marker).exists():\n"
        "        time.sleep(1)\n"
        "    return a\n"
    )
    study = f"name: waves\nmodel: m.s\nfixed: {{marker: {marker}}}\nsets: [{{a: 1}}, {{a: 2}}]\n"
    Path("waves/study.yaml").write_text(study)
    words = [
        "study",
        "run",
        "waves/study.yaml",
        *SMALL,
        "--check",
        "0",
        "--set",
        "executor.taskTimeoutSeconds=1",
    ]
    first = mops_helm(*words, cwd=folder)
    assert first.returncode == 3 and "TaskTimeout" in first.stdout, first.stderr
    line = next(line.strip() for line in first.stderr.splitlines() if "--retry" in line)
    assert line.endswith("--retry failed,poisoned --set executor.taskTimeoutSeconds=2")
    marker.touch()
    again = mops_helm(*shlex.split(line)[1:], cwd=folder)
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_model_with_a_breakpoint_is_debugged_in_the_process_that_has_the_terminal(folder):
    Path("waves").mkdir()
    Path("waves/m.py").write_text("def s(a):\n    breakpoint()\n    return a\n")
    Path("waves/study.yaml").write_text("name: waves\nmodel: m.s\nsets: [{a: 1}]\n")
    words = ["study", "try", "waves/study.yaml", *SMALL]
    refused = mops_helm(*words, cwd=folder)
    (flags,) = re.findall(r"add (--preset \w+)", refused.stdout)
    shown = type_on_terminal(*words, *flags.split(), cwd=folder, keys="continue\n")
    assert "(Pdb)" in shown and "ok in " in shown, shown


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("{start: 0, stop: 1, num: 3}", "UNKNOWN"),
        ("{min: 0, max: 1, n: 3}", "UNKNOWN"),
        ("{from: 0, to: 1, steps: 3}", "UNKNOWN"),
    ],
)
def test_fields_of_a_range_in_the_words_of_other_programs_have_the_right_one(typed, code):
    path = Path("study.yaml")
    path.write_text(f"model: m.s\ngrid: {{x: {typed}}}\n")
    refused = type_line("mops-helm study plan study.yaml")
    hints = re.findall(rf"{code}  unknown field (\w+); write (\w+)", refused.stderr)
    text = path.read_text()
    for name, right in hints:
        text = re.sub(rf"\b{name}:", f"{right}:", text)
    path.write_text(text)
    planned = type_line("mops-helm study plan study.yaml")
    assert hints and planned.exit_code == 0 and "sets        3" in planned.stdout, planned.output


@pytest.mark.parametrize("inside", ["study.json", "parts"])
def test_a_file_or_folder_of_a_store_leads_to_the_store(inside):
    store = fill_store(write_study())
    refused = type_line(f"mops-helm study status {store / inside}")
    assert refused.exit_code == 2
    advised = type_line(find_command(refused.stderr))
    assert advised.exit_code == 0 and "2 tasks" in advised.stdout


def test_the_record_of_a_store_typed_for_a_study_file_leads_to_the_file():
    store = fill_store(write_study())
    refused = type_line(f"mops-helm study plan {store}/study.json --list-tasks")
    assert refused.exit_code == 2
    assert type_line(f"{find_command(refused.stderr)} --list-tasks").exit_code == 0


@pytest.mark.parametrize("typed", [".", "out/waves"])
def test_a_directory_typed_for_an_option_with_a_study_file_leads_to_the_file(typed):
    store = fill_store(write_study())
    refused = type_line(f"mops-helm study status {store} --spec {typed}")
    (flag,) = re.findall(r"^  (--spec \S+)$", refused.stderr, re.MULTILINE)
    assert refused.exit_code == 2
    assert type_line(f"mops-helm study status {store} {flag}").exit_code == 0


def test_a_directory_with_a_study_file_typed_for_a_trial_leads_to_the_file():
    write_study("my models/study.yaml")
    refused = type_line("mops-helm study try 'my models'")
    assert refused.exit_code == 2
    assert find_command(refused.stderr) == "mops-helm study try 'my models/study.yaml'"
    assert "nothing.yaml: no such study file" in type_line("mops-helm study try nothing.yaml").stderr


def test_paths_that_begin_with_a_hyphen_can_be_typed_as_advised():
    write_study("-n.yaml")
    refused = type_line("mops-helm study status ./-n.yaml")
    assert find_command(refused.stderr) == "mops-helm study run ./-n.yaml"
    write_study("-my study.yaml")
    refused = type_line("mops-helm study status './-my study.yaml'")
    assert find_command(refused.stderr) == "mops-helm study run './-my study.yaml'"


@pytest.mark.parametrize("written", ["[1..5]", '["1...5"]', "[1 .. 5]"])
def test_two_numbers_with_dots_between_them_are_no_value_of_a_grid(written):
    path = Path("study.yaml")
    path.write_text(f"model: m.s\nscenario: b\ngrid: {{a: {written}}}\n")
    refused = type_line("mops-helm study plan study.yaml")
    (right,) = re.findall(r"study.yaml:3:\d+  TYPE  .* write (\[[^]]*\])", refused.stderr)
    path.write_text(f"model: m.s\nscenario: b\ngrid: {{a: {right}}}\n")
    planned = type_line("mops-helm study plan study.yaml")
    assert refused.exit_code == 2 and "sets        5" in planned.stdout, planned.output


def test_a_long_interval_has_the_form_of_a_range():
    Path("study.yaml").write_text("model: m.s\nscenario: b\ngrid: {a: [0..1000]}\n")
    assert "{low: 0, high: 1000, num: …}" in type_line("mops-helm study plan study.yaml").stderr


def test_the_rows_of_a_csv_file_become_sets_as_the_page_shows_it():
    path = Path("study.yaml")
    Path("params.csv").write_text("r0,days\n2.5,5\n3,7\n")
    path.write_text("model: m.s\nscenario: b\nsets: params.csv\n")
    refused = type_line("mops-helm study plan study.yaml")
    (page,) = re.findall(r"docs/\w+\.md", refused.stderr)
    recipe = re.search(r"```text\n(import json, pandas\n.*?)```", (ROOT / page).read_text(), re.DOTALL)[1]
    path.write_text("model: m.s\nscenario: b\n")
    exec(recipe, {})  # of our own page
    listed = type_line("mops-helm study plan study.yaml --list-tasks").stdout
    assert '{"days": 5, "r0": 2.5}' in listed, listed


def test_a_script_that_starts_a_study_when_it_is_imported_hears_of_it_before_workers_start():
    Path("m.py").write_text("def s(a):\n    return a\n")
    Path("script.py").write_text(
        "from m import s\nfrom modelops_dask.study import Study, run\n\n"
        "run(Study(model=s, name='waves', sets=[{'a': 1}]))\n"
    )
    refused = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    message = refused.stderr.splitlines()[-1]
    assert "script.py:4: worker processes import this script" in message and "__main__" in message
    assert refused.stderr.count("Traceback") == 1 and not Path("out").exists()
