"""The study commands as a person meets them: what they print, what they refuse, how they end."""

import csv
import io
import json
import shlex
import sys

import pyarrow.parquet
import pytest
from click.testing import CliRunner

from mops_helm.main import main
from study_helpers import KNOBS, SMALL, finish, mops_helm, start, write_spec

FAILING = ["--preset", "direct", *SMALL]


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """A folder in which a study of 12 tasks was run: set 3 raises always."""
    folder = tmp_path_factory.mktemp("failing")
    write_spec(folder, n=12, raises=[3])
    done = mops_helm("study", "run", "study.yaml", *FAILING, cwd=folder)
    assert done.returncode == 3, done.stderr
    return folder, done


def test_a_task_that_always_raises_ends_failed_with_the_line_that_reproduces_it(failing):
    folder, done = failing
    assert "  ok                   11\n  failed                1\n" in done.stdout
    assert "          1  failed    ValueError: unlucky\n" in done.stdout
    line = next(line.strip() for line in done.stdout.splitlines() if "study try" in line)
    assert line.startswith("mops-helm study try out/knobs --task 3/0 --preset direct")
    typed = mops_helm(*shlex.split(line)[1:], cwd=folder)
    assert typed.returncode == 3
    assert "ValueError: unlucky" in typed.stdout and "Traceback" in typed.stdout
    assert typed.stderr.count("x is 3, and that is too much") == 1
    assert '  File "wire.py", line' in typed.stdout, "not that of the copy in the cache"
    by_spec = mops_helm("study", "try", "study.yaml", "--task", "3/0", *FAILING, cwd=folder)
    assert f'  File "{KNOBS}/wire.py", line' in by_spec.stdout
    assert "--retry failed,poisoned" in done.stderr


def test_status_counts_and_tells_by_reason(failing):
    folder, _ = failing
    done = mops_helm("study", "status", "out/knobs", "-o", "json", cwd=folder)
    found = json.loads(done.stdout)
    counts = [found[name] for name in ("total", "ok", "failed", "poisoned", "pending")]
    assert (done.returncode, counts) == (0, [12, 11, 1, 0, 0])
    assert [(r["reason"], r["state"], r["count"], r["task"]) for r in found["by_reason"]] == [
        ("ValueError", "failed", 1, "3/0")
    ]


def test_results_are_listed_and_written_whole(failing):
    folder, _ = failing
    listed = mops_helm("study", "results", "out/knobs", cwd=folder)
    assert "y: 11 rows in out/knobs/results/raw/y.parquet" in listed.stdout
    assert "replicates: 12 rows" in listed.stdout
    assert listed.stderr == "1 of 12 tasks have no outputs in these tables: 1 failed\n"
    written = mops_helm("study", "results", "out/knobs", "--output", "replicates", "--to", "csv", cwd=folder)
    rows = list(csv.DictReader(io.StringIO(written.stdout)))
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["failed"] + ["ok"] * 8
    wrong = mops_helm("study", "results", "out/knobs", "--output", "replicate", cwd=folder)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean replicates?" in wrong.stderr


def test_running_again_says_that_nothing_is_left_and_starts_nothing(failing):
    folder, _ = failing
    again = mops_helm("study", "run", "study.yaml", *FAILING, cwd=folder)
    assert again.returncode == 3, "a task is still failed"
    assert "Nothing was left to do" in again.stderr
    assert "Starting workers" not in again.stderr


def test_retry_tries_failed_tasks_again_and_counts_as_a_run(tmp_path):
    spec = write_spec(tmp_path, n=3, raises=[1])
    first = mops_helm("study", "run", spec, *FAILING, "-o", "json", cwd=tmp_path)
    assert json.loads(first.stdout)["failed"] == 1
    again = mops_helm("study", "run", spec, *FAILING, "--retry", "failed", "-o", "json", cwd=tmp_path)
    found = json.loads(again.stdout)
    assert (found["failed"], found["run"]["tasks"]) == (1, 1)
    bad = mops_helm("study", "run", spec, "--retry", "failed,broken", cwd=tmp_path)
    assert bad.returncode == 2 and "'broken' is not failed or poisoned" in bad.stderr
    near = mops_helm("study", "run", spec, "--retry", "faild", cwd=tmp_path)
    assert near.returncode == 2 and "is not failed or poisoned; did you mean failed?" in near.stderr


def test_a_study_runs_under_a_preset_of_each_kind_and_says_both_again(tmp_path):
    spec = write_spec(tmp_path, n=2, raises=[1])
    both = ["--preset", "simulation", "--preset", "direct"]
    done = mops_helm("study", "run", spec, *both, *SMALL, "-o", "json", cwd=tmp_path)
    (failure,) = json.loads(done.stdout)["by_reason"]
    assert "--preset simulation --preset direct " in failure["reproduce"]
    written = pyarrow.parquet.read_table(tmp_path / "out" / "knobs" / "parts", columns=["executor"])
    assert set(written["executor"].to_pylist()) == {"direct"}


def test_a_study_that_gained_replicates_runs_only_those(tmp_path):
    spec = write_spec(tmp_path, n=5)
    mops_helm("study", "run", spec, *FAILING, cwd=tmp_path)
    write_spec(tmp_path, n=5, replicates=3)
    done = mops_helm("study", "run", spec, *FAILING, "-o", "json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (found["total"], found["ok"], found["run"]["tasks"]) == (15, 15, 10)


def test_another_bundle_is_refused_with_the_way_out(failing, tmp_path):
    folder, _ = failing
    (tmp_path / "wire.py").write_text((KNOBS / "wire.py").read_text() + "\nCHANGED = True\n")
    done = mops_helm("study", "run", "study.yaml", *FAILING, "--bundle", tmp_path, cwd=folder)
    assert done.returncode == 2
    assert "another bundle" in done.stderr and "--store" in done.stderr


def test_files_that_made_another_bundle_are_named_and_can_be_left_out(tmp_path):
    mops_helm("study", "new", "measles", cwd=tmp_path)
    run = ("study", "run", "measles/study.yaml", *FAILING)
    for _ in range(2):
        done = mops_helm(*run, "--store", "measles/results", cwd=tmp_path)  # it lies among the model's files
        assert done.returncode == 0, done.stderr
    mops_helm("study", "report", "measles/results", "--to", "measles/report.html", cwd=tmp_path)
    run = (*run, "--store", "measles/results")
    assert "Nothing was left to do" in mops_helm(*run, cwd=tmp_path).stderr
    (tmp_path / "measles" / "summary.csv").write_text("x\n")
    refused = mops_helm(*run, cwd=tmp_path)
    assert refused.returncode == 2 and "\nSince then: added summary.csv. " in refused.stderr
    planned = mops_helm("study", "plan", "measles/study.yaml", "--store", "measles/results", cwd=tmp_path)
    assert planned.returncode == 0 and "bundle      measles\n" in planned.stdout
    assert "`mops-helm study run` would refuse" in planned.stderr and "added summary.csv" in planned.stderr
    (tmp_path / "measles" / ".modelopsignore").write_text("*.csv\n")
    assert "Nothing was left to do" in mops_helm(*run, cwd=tmp_path).stderr


def test_plan_says_what_run_would_refuse(tmp_path):
    spec = write_spec(tmp_path, n=2)
    spec.write_text(spec.read_text().replace(str(KNOBS), "nowhere"))
    done = CliRunner().invoke(main, ["study", "plan", str(spec)])
    assert done.exit_code == 0 and "tasks       2" in done.stdout
    assert "would refuse" in done.stderr and "nowhere" in done.stderr
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "study.json").write_text("{")
    words = ["study", "plan", str(write_spec(tmp_path, n=2)), "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0 and "tasks       2" in done.stdout
    assert "would refuse" in done.stderr and "study.json is damaged" in done.stderr


@pytest.mark.parametrize("store", ["study.yaml", "study.yaml/in", "s4://bucket/x"])
def test_what_cannot_be_a_store_is_bad_input(tmp_path, store):
    spec = write_spec(tmp_path, n=2)
    before = spec.read_text()
    done = mops_helm("study", "run", spec, *FAILING, "--store", store, cwd=tmp_path)
    assert done.returncode == 2 and store in done.stderr
    assert ("did you mean s3://?" if "://" in store else "Name another with --store") in done.stderr
    assert spec.read_text() == before


def test_what_a_model_prints_never_reaches_standard_output(tmp_path):
    spec = write_spec(tmp_path, n=2, raises=[0])
    done = mops_helm("study", "run", spec, *FAILING, "-o", "json", cwd=tmp_path)
    assert json.loads(done.stdout)["failed"] == 1
    assert "too much" in done.stderr


@pytest.mark.parametrize("executor", ["direct", "isolated_warm"])
def test_try_shows_the_result_and_the_output_of_the_model(tmp_path, executor):
    spec = write_spec(tmp_path, n=4, replicates=2)
    chosen = [*SMALL, "--set", f"executor.type={executor}"]
    done = mops_helm("study", "try", spec, "--task", "2-1", *chosen, "-o", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    planned = mops_helm("study", "plan", spec, "--list-tasks", "-o", "json", cwd=tmp_path)
    task = json.loads(planned.stdout)[5]
    assert {name: found[name] for name in task} == task
    assert (task["set"], task["replicate"], found["outputs"]) == (2, 1, {"y": len(f"2:{task['seed']}")})
    assert not (tmp_path / "out").exists()


def test_a_task_that_ran_out_of_memory_is_tried_with_what_it_had(tmp_path):
    run = mops_helm("study", "run", write_spec(tmp_path, n=2, hungry=[1]), *SMALL, cwd=tmp_path)
    assert run.returncode == 3, run.stderr
    line = next(line.strip() for line in run.stdout.splitlines() if "study try" in line)
    typed = mops_helm(*shlex.split(line)[1:], "-o", "json", cwd=tmp_path)
    found = json.loads(typed.stdout)
    assert (typed.returncode, found["reason"]) == (3, "TaskOOM"), typed.stderr
    rows = pyarrow.parquet.read_table(tmp_path / "out/knobs/parts", columns=["reason", "limit_bytes"])
    limits = [row["limit_bytes"] for row in rows.to_pylist() if row["reason"] == "TaskOOM"]
    assert found["limit_bytes"] == max(limits) > 0


def test_a_task_that_is_not_there(tmp_path):
    spec = write_spec(tmp_path, n=4, replicates=2)
    for task in ("4/0", "0/2", "x", "-1", ""):
        done = CliRunner().invoke(main, ["study", "try", str(spec), "--task", task])
        assert done.exit_code == 2
        assert "0/0 to 3/1" in done.stderr


@pytest.mark.parametrize("replicates", [1, 30])
def test_a_plan_of_ten_million_sets_or_tasks_takes_little_memory(tmp_path, replicates):
    n = 10**7 // replicates
    spec = tmp_path / "study.yaml"
    parameters = "{a: {low: 0, high: 1}, b: {low: 1, high: 1000, scale: log}}"
    text = f"entrypoint: m.s/a\nreplicates: {replicates}\nsobol: {{n: {n}, parameters: {parameters}}}\n"
    spec.write_text(text)
    # By a small process: a child's peak is at least what the process holds that starts it.
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    measuring = [sys.executable, "-c", script]
    planned = finish(start("study", "plan", spec, cwd=tmp_path, within=measuring))
    assert planned.returncode == 0, planned.stderr
    assert f"tasks       {n * replicates:,}" in planned.stdout
    assert int(planned.stdout.split()[-1]) < 500 * 1024


def test_plan_runs_nothing_and_lists_every_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = write_spec(tmp_path, n=3, replicates=2)
    said = CliRunner().invoke(main, ["study", "plan", str(spec)]).stdout
    assert "tasks       6" in said and "store       out/knobs" in said
    tasks = {
        form: CliRunner().invoke(main, ["study", "plan", str(spec), "--list-tasks", "-o", form]).stdout
        for form in ("table", "json", "yaml")
    }
    rows = json.loads(tasks["json"])
    assert [(row["set"], row["replicate"]) for row in rows] == [(s, r) for s in range(3) for r in range(2)]
    import yaml

    assert yaml.safe_load(tasks["yaml"]) == rows
    assert len(tasks["table"].splitlines()) == 7
    assert not (tmp_path / "out").exists()


def test_no_study_there(tmp_path):
    for command in ("status", "results"):
        done = CliRunner().invoke(main, ["study", command, str(tmp_path / "none")])
        assert done.exit_code == 2 and "has no study" in done.stderr
        spaced = CliRunner().invoke(main, ["study", command, str(tmp_path / "not one")])
        assert f"mops-helm study run SPEC --store '{tmp_path / 'not one'}'" in spaced.stderr


def test_every_finding_of_a_bad_spec_and_no_traceback(tmp_path):
    spec = tmp_path / "study.yaml"
    spec.write_text("modl: a.b\nscenario: BAD\nreplicates: 0\n")
    done = mops_helm("study", "run", spec, cwd=tmp_path)
    assert done.returncode == 2
    assert "study.yaml:1:1" in done.stderr and "study.yaml:3:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_words_that_may_not_be_meant_are_warned_of_in_a_line_each(tmp_path):
    spec = write_spec(tmp_path, n=2, icd="12E4")
    spec.write_text(spec.read_text().replace('"12E4"', "12E4"))
    column = spec.read_text().index("12E4") + 1
    said = (
        f"study.yaml:1:{column}  YAML_NUMBER  12E4 is read as 120000.0 here, and as text by PyYAML; "
        'write 120000.0 or "12E4"\n'
    )
    planned = mops_helm("study", "plan", "study.yaml", "-o", "json", cwd=tmp_path)
    assert (planned.returncode, planned.stderr) == (0, f"{said}Calls the wire function wire.py:wire\n")
    (warning,) = json.loads(planned.stdout)["warnings"]
    assert (warning["line"], warning["column"], warning["code"]) == (1, column, "YAML_NUMBER")
    listed = mops_helm("study", "plan", "study.yaml", "--list-tasks", "-o", "json", cwd=tmp_path)
    assert (len(json.loads(listed.stdout)), listed.stderr) == (2, said)
    done = mops_helm(
        "study", "run", "study.yaml", "--preset", "direct", *SMALL, "--progress", "json", cwd=tmp_path
    )
    assert done.returncode == 0
    assert json.loads(done.stderr.splitlines()[0]) == {"event": "message", "text": said.rstrip("\n")}
    words = ", ".join(f"{number}E4" for number in range(10, 40))
    spec.write_text(spec.read_text().replace("12E4", f"[{words}]"))
    planned = mops_helm("study", "plan", "study.yaml", cwd=tmp_path)
    assert len(planned.stderr.splitlines()) == 12
    assert "study.yaml: 20 more warnings like these" in planned.stderr


def test_an_executor_that_this_version_lacks_is_said_before_anything_starts(tmp_path):
    spec = write_spec(tmp_path, n=2)
    done = mops_helm("study", "run", spec, "--set", "executor.type=none", cwd=tmp_path)
    assert done.returncode == 2 and "executor" in done.stderr and "Traceback" not in done.stderr
    assert "Starting workers" not in done.stderr


def test_progress_off_a_terminal_is_plain_lines(tmp_path):
    spec = write_spec(tmp_path, n=40, seconds=0.01)
    process = start("study", "run", spec, *FAILING, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "40 of 40 tasks done" in err and "\r" not in err and "\x1b" not in err
    assert "tasks done" not in out
