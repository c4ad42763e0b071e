"""`preset diagnose --study`: what a person types, reads and is left with."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from diagnose_helpers import Case
from executor_helpers import write_bundle
from helpers import wait_for
from modelops_dask.bundle import Bundle
from modelops_dask.diagnose.result import (
    ArmReport,
    Diagnosis,
    Evidence,
    Example,
    Pollution,
    SourceRef,
    TaskRef,
)
from modelops_dask.diagnose.trials import arms
from modelops_dask.diagnose.verdict import advice, verdict
from mops_helm import paths
from mops_helm.diagnose import study_diagnosis
from mops_helm.diagnose.questions import PresetTrial
from mops_helm.diagnose.study_diagnosis import StudyDiagnosis
from mops_helm.main import main
from mops_helm.render import diagnosis_page, diagnosis_questions, diagnosis_text
from mops_helm.values import layers
from mops_helm.values.tree import flatten_dotted
from study_helpers import finish, mops_helm, start, wait_for_line

IMAGE = ["--set", "executor.environment=image"]
FEW = ["--tasks", "4", "--repeats", "2"]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module", autouse=True)
def away(tmp_path_factory):
    """No cluster that could name a release."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(tmp_path_factory.mktemp("away") / "none"))
        yield


def study(name: str) -> list[str]:
    return ["--study", str(Case(name).folder / "study.yaml")]


def refused(*arguments) -> str:
    done = CliRunner().invoke(main, ["preset", "diagnose", *map(str, arguments)])
    assert done.exit_code == 2, done.output
    return done.stderr


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A folder in which the model of global-state was diagnosed, with all that a person may ask for."""
    folder = tmp_path_factory.mktemp("sick")
    wanted = [
        "--arms",
        "single-process,isolated-fork",
        "--report",
        "page.html",
        "--write",
        "values.yaml",
        "--store",
        "kept",
        "-o",
        "json",
    ]
    done = mops_helm(
        "preset", "diagnose", *study("global-state"), *FEW, *IMAGE, *wanted, cwd=folder, timeout_seconds=300
    )
    assert done.returncode == 3, done.stderr
    return folder, done


def test_the_verdict_is_data_on_stdout_and_all_talk_is_on_stderr(sick):
    _, done = sick
    found = json.loads(done.stdout)
    assert (found["verdict"], found["preset"]) == ("process-reuse", "isolated-fork")
    assert found["polluter"]["tasks"][0]["params"]["close_schools"] is True
    assert found["evidence"]["arms"] == ["single-process", "cold"]
    assert [arm["arm"] for arm in found["arms"]] == list(arms.NAMES)
    assert "single-process" in done.stderr


def test_the_folder_keeps_what_was_seen(sick):
    folder, done = sick
    assert json.loads((folder / "kept" / "diagnosis.json").read_text()) == json.loads(done.stdout)
    rows = pq.read_table(folder / "kept" / "observations.parquet").to_pylist()
    cold = [row for row in rows if row["arm"] == "cold"]
    assert {row["task"] for row in cold} <= {row["task"] for row in rows if row["arm"] == "single-process"}
    assert (
        len({(row["task"], str(row["outputs"])) for row in cold}) == len({row["task"] for row in cold}) >= 4
    )
    warm = {(row["task"], str(row["outputs"])) for row in rows if row["arm"] == "single-process"}
    assert len(warm) > 4


def test_the_script_that_is_kept_reproduces_it(sick):
    folder, _ = sick
    done = subprocess.run(
        [sys.executable, folder / "kept" / "reproduce.py"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stdout + done.stderr


def test_the_values_that_are_written_pass_the_checks(sick):
    folder, _ = sick
    written = yaml.safe_load((folder / "values.yaml").read_text())
    assert written["executor"] == {"type": "isolated_fork", "environment": "image", "forceFreshVenv": False}
    checked = mops_helm("values", "check", "values.yaml", cwd=folder)
    assert checked.returncode == 0, checked.stdout


def test_the_page_needs_no_network_and_says_it_all(sick):
    folder, _ = sick
    page = (folder / "page.html").read_text()
    assert not re.search(r"(src|href)=|url\(|@import", page)
    for text in (
        "process-reuse",
        "close_schools",
        "mops-helm upgrade RELEASE",
        "isolated_fork",
        "Polluter",
    ):
        assert text in page


def test_a_healthy_model_ends_with_status_0_and_what_it_may_still_hide(tmp_path):
    done = mops_helm(
        "preset",
        "diagnose",
        *study("healthy"),
        *FEW,
        *IMAGE,
        "--arms",
        "single-process,baseline",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("healthy: ")
    assert "Not excluded" in done.stdout
    assert re.search(r"^direct +not run .*not requested$", done.stdout, re.MULTILINE)
    assert "meanwhile" not in done.stdout and "mops-helm upgrade" not in done.stdout
    assert (tmp_path / "out" / "healthy-diagnosis" / "diagnosis.json").exists()


@pytest.mark.parametrize("moment", ["workers start", "tasks run"])
def test_ctrl_c_ends_it_with_all_processes(tmp_path, moment):
    process = start("preset", "diagnose", *study("shared-file"), *IMAGE, cwd=tmp_path)
    of_process = psutil.Process(process.pid).children
    if moment == "workers start":
        wait_for(of_process, "a worker that is being started")
    else:
        wait_for_line(process, "cold")
    family = of_process(recursive=True)
    assert family
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    wait_for(lambda: not any(each.is_running() for each in family), "end of its processes")


def test_the_budget_ends_a_model_that_hangs(tmp_path):
    model = write_bundle(
        tmp_path / "model",
        {
            "wire.py": "import time\n\ndef wire(entrypoint, params, seed):\n    time.sleep(1e6)\n",
            "study.yaml": "name: hangs\nentrypoint: models.hang/on\ngrid: {x: [1, 2, 3, 4, 5]}\n",
        },
    )
    done = mops_helm(
        "preset",
        "diagnose",
        "--study",
        model / "study.yaml",
        *IMAGE,
        "--budget",
        "8s",
        "-o",
        "json",
        cwd=tmp_path,
    )
    found = json.loads(done.stdout)
    assert (done.returncode, found["verdict"]) == (3, "inconclusive"), done.stderr
    assert found["budget_seconds"] == 8


def test_a_task_that_fails_alone_comes_with_a_command_to_paste(tmp_path):
    model = write_bundle(
        tmp_path / "my model",
        {
            "wire.py": "def wire(entrypoint, params, seed):\n    return {'y': b'1' * (6 // params['x'])}\n",
            "study.yaml": "name: divides\nentrypoint: models.divide/by\ngrid: {x: [0, 1, 2, 3]}\n",
        },
    )
    spec = model / "study.yaml"
    arms_wanted = ["--arms", "single-process"]
    done = mops_helm("preset", "diagnose", "--study", spec, *FEW, *IMAGE, *arms_wanted, cwd=tmp_path)
    assert f"mops-helm study try '{spec}' --task 0/0" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--study", "none.yaml"], "none.yaml"),
        ([*study("healthy"), "--arms", "warm"], "Unknown arm warm"),
        ([*study("healthy"), "--arms", "baselin"], "Did you mean baseline?"),
        ([*study("healthy"), "--budget", "soon"], "write 90s, 5m or 1h"),
        ([*study("healthy"), "--answer", "symptom=results"], "leave out SPEC"),
        ([*study("healthy"), "--write", "no/such/folder.yaml"], "folder no/such does not exist"),
        ([*study("healthy"), "--report", "/proc/page.html"], "/proc/page.html: No such file or directory"),
        ([*study("healthy"), "--store", "/dev/null/x"], "/dev/null/x: Not a directory"),
        ([*study("healthy"), "--store", "/proc/a/b"], "/proc/a/b: No such file or directory"),
        (["--report", "page.html"], "add SPEC"),
        ([*study("healthy"), "--preset", "single-proces"], "did you mean single-process?"),
    ],
)
def test_bad_input_is_said_before_anything_runs(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stderr = refused(*arguments)
    assert said in stderr and "cold: a new interpreter" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_explain_has_every_arm_every_fact_and_every_row():
    done = CliRunner().invoke(main, ["preset", "diagnose", "--explain"])
    assert done.exit_code == 0
    for text in (*arms.NAMES, *verdict.FACTS, *(row.because for row in verdict.TABLE)):
        assert text in done.stdout
    data = json.loads(CliRunner().invoke(main, ["preset", "diagnose", "--explain", "-o", "json"]).stdout)
    assert [row["verdict"] for row in data["rows"]] == [row.verdict for row in verdict.TABLE]


def diagnosis(**changed) -> Diagnosis:
    """A diagnosis with something of everything."""
    values = advice.recommend_values("process-reuse", {"fork": False}, "bundle")
    victim, guilty = TaskRef("0/0", {"x": 1}, 5), TaskRef("3/1", {"x": HOSTILE}, 6)
    return replace(
        Diagnosis(
            "process-reuse",
            "results depend on what ran before",
            0.999,
            "isolated-fork",
            values,
            Evidence(
                ("single-process", "cold"),
                40,
                72,
                "3 of 3",
                Example("0/0", "y", "1", "2", "different"),
                (HOSTILE,),
            ),
            polluter=Pollution((guilty,), victim, (HOSTILE,), HOSTILE),
            sources=(SourceRef("clock", "time.time", "model.py", 12, True),),
            not_excluded=(HOSTILE,),
            arms=(
                ArmReport("cold", "same", "", 24, 2, 0, 3.1, 20 << 20),
                ArmReport("direct", "not run", HOSTILE),
            ),
            tasks=24,
            orders=3,
            budget_seconds=600,
            seconds=31,
        ),
        **changed,
    )


def experiment(**changed) -> StudyDiagnosis:
    bundle = Bundle(Path("any"), "sha256:00")
    return StudyDiagnosis(Case("healthy").spec, bundle, diagnosis(**changed), Path("bin/python"))


def test_what_comes_from_a_model_cannot_become_part_of_the_page():
    page = diagnosis_page.render_diagnosis_page(experiment(), "mops-helm upgrade RELEASE")
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6


def test_a_diagnosis_reads_from_the_verdict_to_the_command():
    said = diagnosis_text.render_diagnosis(experiment(), "mops-helm upgrade RELEASE", Path("kept"), "table")
    heads = [
        "process-reuse: ",
        "Confidence 0.999",
        "Evidence",
        "40 of 72",
        "For example",
        "Polluter",
        "changes",
        "ARM",
    ]
    heads += [
        "Not excluded",
        "Use until it is fixed: preset isolated-fork",
        "Apply it: mops-helm upgrade RELEASE",
    ]
    places = [said.index(head) for head in heads]
    assert places == sorted(places)
    assert "\nReproduce    bin/python kept/reproduce.py\n" in said
    spaced = diagnosis_text.render_diagnosis(experiment(), "", Path("my model"), "table")
    assert "\nReproduce    bin/python 'my model/reproduce.py'\n" in spaced
    data = json.loads(diagnosis_text.render_diagnosis(experiment(), "", Path(), "json"))
    assert data == json.loads(json.dumps(diagnosis().as_json()))


@pytest.mark.parametrize("form", ["table", "json"])
def test_what_was_found_is_printed_also_when_it_cannot_be_kept(form, tmp_path, monkeypatch):
    """The folder is there when it is tried, and a file is in its place in the end."""

    def run(*_: object, **__: object) -> StudyDiagnosis:
        Path("kept").write_text("")
        Path("page.html").mkdir()
        return experiment()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study_diagnosis, "diagnose_here", run)
    asked = ["--store", "kept", "--report", "page.html", "--write", "values.yaml", "-o", form]
    done = CliRunner().invoke(main, ["preset", "diagnose", *study("healthy"), *asked])
    assert (done.exit_code, done.stderr.splitlines()) == (
        2,
        ["values.yaml: written", "kept: File exists", "page.html: Is a directory"],
    )
    assert "process-reuse" in done.stdout
    assert "Kept in" not in done.stdout and "reproduce.py" not in done.stdout
    assert (tmp_path / "values.yaml").exists()


def test_a_healthy_model_is_given_nothing_to_apply():
    healthy = experiment(
        verdict="healthy", preset="baseline", values=advice.recommend_values("healthy", {}, "bundle")
    )
    apply = "mops-helm upgrade RELEASE --preset baseline"
    for said in (
        diagnosis_text.render_diagnosis(healthy, apply, Path("kept"), "table"),
        diagnosis_page.render_diagnosis_page(healthy, apply),
    ):
        assert "healthy" in said and "meanwhile" not in said and "upgrade" not in said
        assert "preset: baseline" not in said


CAUSES = verdict.VERDICTS
FACTS = [{}, {"fork": False}, {"fork": True}, {"cold": True}]
NUMBERS = [{}, {"max_process_reuse": 40}, {"process_bytes": 900 << 20}, {"writes_environment": True}]
ADVISED = [
    advice.recommend_values(cause, facts, environment, **numbers)
    for cause, facts, environment, numbers in product(CAUSES, FACTS, ["bundle", "image"], NUMBERS)
    if (cause, environment) != ("cached-environment", "image")  # there is one, which is not built anew
]


def test_values_that_a_shell_would_read_otherwise_are_quoted():
    trial = PresetTrial("", ("nodeSelector={a b}",))
    assert (
        diagnosis_questions.render_upgrade_command(trial, None)
        == "mops-helm upgrade RELEASE --set 'nodeSelector={a b}'"
    )


@pytest.mark.parametrize(
    "values", {json.dumps(values): values for values in ADVISED}.values(), ids=json.dumps
)
def test_the_command_gives_a_release_the_values_that_are_advised(values):
    trial = study_diagnosis.make_trial(diagnosis(values=values))
    assert trial.preset == values.get("preset", "")
    release = paths.PRESETS / "single-process.yaml"  # as a release that has another preset
    given = flatten_dotted(layers.resolve([trial.preset], [release], trial.sets).values)
    assert given.items() >= flatten_dotted(values).items()
    assert diagnosis_questions.render_upgrade_command(trial, None).startswith("mops-helm upgrade RELEASE --")
