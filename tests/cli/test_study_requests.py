"""`study results JOB` and its like show the tasks of that Job, whatever was run into its store since."""

import gzip
import io
import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from modelops_dask.bundle import Bundle
from modelops_dask.kube import jobs, study_jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from mops_helm.main import main
from mops_helm.render import submitted_studies
from mops_helm.study import pod_reader, submission
from store_helpers import attempt, begin, write_spec
from study_helpers import SMALL, mops_helm
from study_helpers import write_spec as knobs

STUDY = study_jobs.parse_job(
    {
        "metadata": {
            "name": "study-0123456789ab",
            "uid": "u",
            "creationTimestamp": "2026-11-21T10:00:00Z",
            "labels": {"modelops.io/release": "epi", "modelops.io/study": "sir"},
            "annotations": {"modelops.io/store": "/shared/sir"},
        },
        "spec": {"template": {}},
        "status": {"ready": 1},
    }
)


def run(files, folder, sets):
    """A study file whose tasks are all done, with the parameter as their output."""
    spec = write_spec(folder, sets=sets, replicates=1)
    plan = begin(files, folder, sets=sets, replicates=1)
    rows = list(plan.tasks([(0, plan.absent.size)]))
    outputs = {row.set: {"y": str(row.params["a"]).encode()} for row in rows}
    parts.write(files, [attempt(plan, row.set, row.replicate, outputs=outputs[row.set]) for row in rows])
    return spec.path


@pytest.fixture
def job(tmp_path):
    """A Job whose store got another request since; its study file lies where its pods see it, packed."""
    files = Store(str(tmp_path / "store"))
    first = run(files, tmp_path, "[{a: 1}, {a: 2}]")
    packed = tmp_path / "spec.yaml.gz"
    packed.write_bytes(gzip.compress(first.read_bytes()))
    run(files, tmp_path, "[{a: 7}]")
    driver = {"name": "driver", "args": ["python", "-m", "modelops_dask.driver", "--spec", str(packed)]}
    return replace(STUDY, store=files.location(), template={"spec": {"containers": [driver]}})


class LocalPod:
    """Runs a pod's commands in this process; `old` as an image of 0.1 does, which knows fewer words."""

    def __init__(self, *, old: bool) -> None:
        self.old, self.commands = old, []

    def run(self, command, stdout, stdin=None, stderr=None):
        self.commands.append(command)
        words = command[1:]
        unknown = [word for word in words if word in ("--spec", "--table")] if self.old else []
        if unknown:
            words = ["study", "list", *words[words.index(unknown[0]) :]]  # the true words of such a refusal
        elif self.old and words[-2:] == ["-o", "csv"]:
            words = ["study", "list", "-o", "csv"]
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert stdin is None
        stdout.write(done.stdout_bytes)
        stderr.write(done.stderr_bytes)
        return done.exit_code


@pytest.fixture
def read(job, monkeypatch):
    """read(verb, word, …): status, what was printed, what was said, and the pod."""

    def run(verb, *words, old=False, study=job):
        pod, stdout, said = LocalPod(old=old), io.BytesIO(), []

        @contextmanager
        def visiting(*_):
            yield pod

        monkeypatch.setattr(pod_reader, "open_visit", visiting)
        code = pod_reader.run_in_pod(None, study, verb, words, stdout, say=said.append)
        return code, stdout.getvalue().decode(), "\n".join(said), pod

    return run


@pytest.mark.parametrize(
    ("limits", "had", "wanted"), [({"memory": "6Gi"}, ", 6Gi", "12288Mi"), ({}, "", "4096Mi")]
)
def test_a_reader_that_is_killed_says_so_and_what_to_type(limits, had, wanted, job, monkeypatch):
    """One that builds tables in too little memory has no last word of its own."""
    job.template["spec"]["containers"][0]["resources"] = {"limits": limits}
    killed = SimpleNamespace(run=lambda *_, **__: 137)
    monkeypatch.setattr(pod_reader, "open_visit", lambda *_: nullcontext(killed))
    with pytest.raises(pod_reader.ReaderKilled) as error:
        pod_reader.run_in_pod(
            SimpleNamespace(namespace="lab", flags="-n lab"), job, "results", (), io.BytesIO(), say=print
        )
    said, upgrade, again = str(error.value).splitlines()
    assert f"study's driver{had}. Results are stored." in said and error.value.exit_code == 5
    assert upgrade.endswith(f"-n lab --set studies.driver.resources.requests.memory={wanted}")
    assert again.strip() == job.command


def test_the_command_that_reproduces_a_task_of_an_earlier_request_works(tmp_path, monkeypatch):
    """The store numbers its sets through all requests, and the last one does not have this task."""
    monkeypatch.chdir(tmp_path)
    mine = ["--preset", "direct", *SMALL, "--store", "store"]
    first, last = tmp_path / "first", tmp_path / "last"
    for folder, n in ((first, 4), (last, 1)):
        folder.mkdir()
        spec = knobs(folder, n=n, raises=[3])
        done = mops_helm("study", "run", spec, *mine, cwd=tmp_path)
        assert done.returncode == (3 if n == 4 else 0), done.stderr
    words = ["study", "status", "store", "--spec", "first/study.yaml"]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0 and "failed                1" in shown.stdout, shown.output
    (line,) = (line.strip() for line in shown.stdout.splitlines() if "study try" in line)
    assert line == "mops-helm study try store --task 3/0 --spec first/study.yaml"
    tried = mops_helm(*line.split()[1:], *mine[:2], *SMALL, cwd=tmp_path)
    assert tried.returncode == 3 and "ValueError: unlucky" in tried.stdout, tried.stdout + tried.stderr


CSV = ("--output", "y", "--to", "csv")


def values(text):
    """Of the parameter."""
    return [line.split(",")[4].strip('"') for line in text.splitlines()[1:]]


def test_each_verb_is_of_the_jobs_own_tasks(read, capfd):
    code, text, said, pod = read("results", *CSV)
    assert (code, values(text), said, len(pod.commands)) == (0, ["1", "2"], "", 1)
    assert "tables of an earlier request" in capfd.readouterr().err
    code, text, _, _ = read("results", "-o", "json")
    listed = {table["name"]: table for table in json.loads(text)}
    assert (code, listed["y"]["rows"], listed["y"]["file"]) == (0, 2, None)
    code, text, _, _ = read("report", "--to", "-")
    assert code == 0 and "<b>2</b>" in text
    code, text, _, _ = read("verify", "--sample", "0", "-o", "table")
    assert code == 0 and ": 2 ok;" in text and "results/ has the tables of a later request" in text


def test_an_older_image_shows_the_last_request_and_that_is_said(read, capfd):
    code, text, said, pod = read("results", *CSV, old=True)
    assert (code, values(text), len(pod.commands)) == (0, ["7"], 2)
    assert "the store's last request, which may be another Job's" in said
    assert "No such option" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "n_commands"), [(("--table", "y", "-o", "csv"), 3), (("--table", "y", "-o", "table"), 3)]
)
def test_an_older_image_is_asked_in_its_own_words(words, n_commands, read, capfd):
    """It says of the first word that it does not know that there is no such option; nothing else is lost."""
    code, text, _, pod = read("results", *words, old=True)
    assert (code, len(pod.commands)) == (0, n_commands)
    assert values(text) == ["7"] if "csv" in words else text.startswith("y: 1 row in")
    assert pod.commands[-1][4:6] == ["--output", "y"] and "--spec" not in pod.commands[-1]
    assert "No such option" not in capfd.readouterr().err


def test_an_older_image_takes_a_format_without_a_table_too(read):
    code, text, _, pod = read("results", "-o", "csv", old=True)
    assert (code, values(text), pod.commands[-1][4:]) == (0, ["7"], ["--to", "csv"])


def test_this_image_is_asked_once(read, capfd):
    code, text, _, pod = read("results", "--table", "y", "-o", "csv")
    assert (code, values(text), len(pod.commands)) == (0, ["1", "2"], 1)
    assert "new spelling" not in capfd.readouterr().err


def test_a_job_that_does_not_say_what_it_asked_for_shows_the_last_request(read, job):
    other = replace(job, template={"spec": {"containers": [{"name": "driver"}]}})
    code, text, said, pod = read("results", *CSV, study=other)
    assert (code, values(text), len(pod.commands)) == (0, ["7"], 1)
    assert "last request" in said


def test_another_failure_in_the_pod_is_not_taken_for_an_old_image(read, capfd):
    code, _, said, pod = read("results", "--output", "z", "--to", "csv")
    assert (code, said, len(pod.commands)) == (2, "", 1)
    assert "has no output z" in capfd.readouterr().err


def test_in_the_cluster_the_study_file_is_the_jobs():
    for verb in ("status", "results", "report", "verify"):
        done = CliRunner().invoke(main, ["study", verb, "sir", "-n", "lab", "--spec", __file__])
        assert done.exit_code == 2 and "leave out --spec" in done.stderr


def test_a_submission_beside_another_that_writes_the_same_store_says_so(monkeypatch, tmp_path):
    """Both Jobs run: neither is refused, for each ends with its own results."""
    mine = submission.SubmitRequest(None, Bundle(tmp_path, ""), store=STUDY.store)
    order = jobs.Order("study-mine", "sir", STUDY.store, "", "", (), {})
    others = [STUDY, replace(STUDY, job="study-elsewhere", store="/shared/other"), replace(STUDY, ended=True)]
    facts = {"release": "epi", "maxActive": 5}
    monkeypatch.setattr(jobs, "read_offer", lambda *_: jobs.Offer(facts, {}, {}))
    monkeypatch.setattr(submission, "choose_store", lambda *_: STUDY.store)
    monkeypatch.setattr(submission, "make_order", lambda *_: (order, b""))
    monkeypatch.setattr(submission, "check_duration", lambda *_: None)
    monkeypatch.setattr(study_jobs, "list_study_jobs", lambda *_: others)
    for name, answer in {"build": ({}, {}), "read": None, "dry_run": None, "create": True}.items():
        monkeypatch.setattr(jobs, name, lambda *_, answer=answer: answer)
    done = submission.submit(Cluster(None, "lab"), "epi", mine, None)
    assert [other.job for other in done.other_studies] == [STUDY.job]
    text = submitted_studies.render_submission(done)
    assert f"{STUDY.job} (running) writes the same store" in text and "cancel this one" in text
    facts["maxActive"] = 1
    with pytest.raises(submission.TooManyStudies):
        submission.submit(Cluster(None, "lab"), "epi", mine, None)
