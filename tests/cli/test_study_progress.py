"""How far a run is, for programs and from another shell; who runs a study, and a second run beside it."""

import io
import json
import os
import signal
import subprocess
import termios
import time
from dataclasses import asdict, replace

import pytest

from helpers import wait_for
from modelops_dask.store.files import Store
from modelops_dask.study.presence import FILE, STALE_SECONDS, AlreadyRunning, Presence, find_running
from modelops_dask.study.progress import Meter, Progress
from mops_helm.study.progress import (
    LINE_SECONDS,
    JsonLines,
    ProgressLines,
    choose_reporter,
    describe_progress,
)
from study_helpers import SMALL, below, finish, mops_helm, parts_in, start, write_spec

DIRECT = ["--preset", "direct", *SMALL]


def events(stderr: str) -> list[dict]:
    return [json.loads(text) for text in stderr.splitlines() if text.startswith("{")]


def test_progress_as_json_has_phases_counts_and_the_next_step(tmp_path):
    spec = write_spec(tmp_path, n=40, raises=[3])
    chosen = [*SMALL, "--set", "executor.type=isolated_warm"]
    done = mops_helm("study", "run", spec, *chosen, "--progress", "json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    seen = events(done.stderr)
    assert len(seen) == len(done.stderr.splitlines()), "every line is an object"
    phases = [event["phase"] for event in seen if event["event"] == "phase"]
    assert phases == ["workers", "environment", "canary", "running", "checking", "compacting"]
    last = [event for event in seen if event["event"] == "progress"][-1]
    counts = [last[name] for name in ("total", "done", "ok", "failed", "poisoned")]
    assert counts == [40, 40, 39, 1, 0] and last["peak_bytes"] > 2**20
    assert seen[-1]["event"] == "message" and "study results" in seen[-1]["text"]


def test_an_error_is_a_json_line_too(tmp_path):
    spec = tmp_path / "study.yaml"
    spec.write_text("modl: a.b\nscenario: x\n")
    done = mops_helm("study", "run", spec, "--progress", "json", cwd=tmp_path)
    assert done.returncode == 2
    (event,) = events(done.stderr)
    assert (event["event"], event["exit_code"]) == ("error", 2) and "did you mean model?" in event["text"]


def test_status_shows_a_live_run_and_a_second_run_is_refused_until_it_ends(tmp_path):
    gate = tmp_path / "gate"
    spec = write_spec(tmp_path, n=4, until=str(gate))
    first = start("study", "run", spec, *DIRECT, cwd=tmp_path)
    try:
        wait_for(lambda: (tmp_path / "out/knobs" / FILE).exists() or first.poll() is not None, FILE, 60)
        wait_for(lambda: below(first, runner=False), "worker", 60)
        seen = json.loads(mops_helm("study", "status", "out/knobs", "-o", "json", cwd=tmp_path).stdout)
        assert (seen["driver"]["pid"], seen["pending"]) == (first.pid, 4)
        shown = mops_helm("study", "status", "out/knobs", cwd=tmp_path).stdout
        assert f"Being run by process {first.pid} of this machine, for " in shown
        write_spec(tmp_path, n=5, until=str(gate))
        second = mops_helm("study", "run", spec, *DIRECT, cwd=tmp_path)
        assert second.returncode == 2 and "Traceback" not in second.stderr
        assert f"is being run by process {first.pid} of this machine" in second.stderr
        assert "mops-helm study status" in second.stderr
        still = json.loads(mops_helm("study", "status", "out/knobs", "-o", "json", cwd=tmp_path).stdout)
        assert still["total"] == 4, "the refused run changed nothing"
    finally:
        gate.touch()
    assert finish(first).returncode == 0
    assert not (tmp_path / "out/knobs" / FILE).exists()
    after = mops_helm("study", "status", "out/knobs", "-o", "json", cwd=tmp_path)
    assert json.loads(after.stdout)["driver"] is None


def test_a_run_that_was_killed_is_taken_over_silently(tmp_path):
    spec = write_spec(tmp_path, n=60, seconds=0.05)
    first = start("study", "run", spec, *DIRECT, cwd=tmp_path)
    wait_for(lambda: parts_in(tmp_path / "out/knobs") or first.poll() is not None, "batch", 60)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert (tmp_path / "out/knobs" / FILE).exists()
    shown = mops_helm("study", "status", "out/knobs", cwd=tmp_path)
    assert "Being run" not in shown.stdout
    again = mops_helm("study", "run", spec, *DIRECT, "-o", "json", cwd=tmp_path)
    assert again.returncode == 0 and json.loads(again.stdout)["ok"] == 60
    assert "run by" not in again.stderr and "runs this study" not in again.stderr


ELSEWHERE = ["unshare", "--uts", "sh", "-c", 'echo elsewhere >/proc/sys/kernel/hostname && exec "$@"', "sh"]


def test_two_machines_that_run_and_extend_one_study_at_once_both_end_correct(tmp_path):
    """The second machine is a process with a host name of its own."""
    if subprocess.run([*ELSEWHERE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --uts needs root")
    gate = tmp_path / "gate"
    spec = write_spec(tmp_path, n=30, until=str(gate))
    first = start("study", "run", spec, *DIRECT, cwd=tmp_path)
    try:
        wait_for(
            lambda: find_running(Store(str(tmp_path / "out/knobs"))) or first.poll() is not None, FILE, 60
        )
        wait_for(lambda: (tmp_path / "out/knobs/spec.json").exists() or first.poll() is not None, "plan", 60)
        write_spec(tmp_path, n=40, until=str(gate))
        second = start("study", "run", spec, *DIRECT, "-o", "json", cwd=tmp_path, within=ELSEWHERE)
        wait_for(lambda: below(second, runner=False) or second.poll() is not None, "second worker", 60)
    finally:
        gate.touch()
    ended = finish(first), finish(second)
    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert "If it is still running, both runs end with correct results" in ended[1].stderr
    assert json.loads(ended[1].stdout)["ok"] == 40
    shown = json.loads(mops_helm("study", "status", "out/knobs", "-o", "json", cwd=tmp_path).stdout)
    assert (shown["ok"], shown["pending"], shown["conflicts"], shown["driver"]) == (40, 0, [], None)


@pytest.fixture
def files(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def leave(files: Store, **changes) -> None:
    """driver.json as a run of this process wrote it, changed."""
    with Presence(files) as presence:
        driver = replace(find_running(files) or presence.driver, **changes)
    files.put(FILE, json.dumps(asdict(driver)).encode())


@pytest.mark.parametrize(
    ("changes", "refused", "notes"),
    [
        ({}, True, 0),
        ({"seen": time.time() - STALE_SECONDS - 1}, False, 0),
        ({"began": 1.0}, False, 0),  # its number belongs to another process now
        ({"host": "elsewhere"}, False, 1),  # cannot be judged from here
        ({"host": "elsewhere", "seen": time.time() - STALE_SECONDS - 1}, False, 0),
    ],
)
def test_who_is_refused(files, changes, refused, notes):
    leave(files, **changes)
    said = []
    if refused:
        with pytest.raises(AlreadyRunning), Presence(files, said.append):
            pass
        assert find_running(files), "the file of the other stays"
    else:
        with Presence(files, said.append):
            assert find_running(files).here
        assert notes or find_running(files) is None
    assert len(said) == notes


def test_how_to_watch_the_run_that_is_there_can_be_pasted(tmp_path):
    files = Store(str(tmp_path / "my store"))
    leave(files)
    watch = f"mops-helm study status '{tmp_path}/my store'"
    with pytest.raises(AlreadyRunning, match=watch), Presence(files):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"host": 1}', b"\xff"])
def test_a_file_that_cannot_be_read_means_nobody(files, content):
    files.put(FILE, content)
    assert find_running(files) is None
    with Presence(files):
        assert find_running(files).pid == os.getpid()
    assert find_running(files) is None


def test_the_rate_is_that_of_the_last_half_minute_and_nothing_is_said_of_the_first_task():
    def at(seconds: float, done: int) -> Progress:
        return meter(Progress(10_000, done, 0, 0, done, seconds, 2, 300 * 2**20))

    meter = Meter()
    assert describe_progress(at(20, 2)) == "2 of 10,000 tasks done, up to 300 MiB a task"
    assert (
        describe_progress(at(21, 102))
        == "102 of 10,000 tasks done, 100 a second, 1 min 39 s to go, up to 300 MiB a task"
    )
    for second in range(22, 100):
        shown = at(second, 102 + 10 * (second - 21))
    assert shown.rate == pytest.approx(10)


def test_off_a_terminal_a_stage_is_a_line_every_ten_seconds():
    stream = io.StringIO()
    lines = ProgressLines(stream)
    for number in range(3):
        lines.stage(f"downloading {number}")
        lines._last_line -= LINE_SECONDS * (number == 1)  # ten seconds later
    assert stream.getvalue() == "  downloading 2\n"


def test_on_a_terminal_stages_are_one_line_that_ends_with_the_phase():
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 30))
    with os.fdopen(writer, "w") as stream:
        bar = choose_reporter(stream)
        bar.phase("environment")
        bar.stage("choosing packages")
        bar.stage("downloading a-package-with-a-long-name (33.7MiB)")
        bar.say("Built it")
        bar.close()
        text = ""
        while "Built it" not in text:
            text += os.read(reader, 4096).decode()
    os.close(reader)
    shown = [line.rpartition("\033[K")[2] for line in text.replace("\r\n", "\n").strip().split("\n")]
    assert shown == ["Preparing the model's environment", "Built it"]
    assert max(len(part.strip()) for part in text.split("\033[K")[1:]) < 30, (
        "a longer one would begin a new line"
    )


def test_a_stage_as_json_is_an_event():
    stream = io.StringIO()
    JsonLines(stream).stage("choosing packages")
    assert json.loads(stream.getvalue()) == {"event": "stage", "text": "choosing packages"}
