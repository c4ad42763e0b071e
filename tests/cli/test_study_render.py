"""What the study commands print, as whole texts, and progress on and off a terminal."""

import fcntl
import io
import os
import pty
import struct
import termios
from dataclasses import replace

import pyarrow as pa
import pytest

from modelops_dask.store.fold import Failure
from modelops_dask.study.progress import Progress
from modelops_dask.study.summary import Summary
from mops_helm.render import study_results, study_summary
from mops_helm.study.progress import ProgressLines, choose_reporter, describe_progress, format_duration

COUNTS = {"ok": 11_990, "failed": 9, "poisoned": 1, "pending": 0}


def test_summary_of_a_run_with_failures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Summary(
        str(tmp_path / "out" / "sir grid"),
        "models.sir/baseline",
        12_000,
        COUNTS,
        [Failure("ValueError", "failed", 9, 3, 14), Failure("WorkerDied", "poisoned", 1, 7, 0)],
        conflicts=[(2, 5)],
        skipped={"a.parquet": "torn: no footer"},
        run_progress=Progress(12_000, 11_990, 9, 1, 6_000, 41.2, 2, 123 * 2**20),
        results=(str(tmp_path / "out" / "sir grid" / "results" / "replicates.parquet"),),
    )
    assert study_summary.render_summary(found, "table", "--preset direct") == (
        "Study in out/sir grid: 12,000 tasks of models.sir/baseline\n"
        "  ok               11,990\n"
        "  failed                9\n"
        "  poisoned              1\n"
        "This run: 6,000 tasks in 41 s, 146 a second, peak memory of a task 123 MiB\n"
        "Not ok, by reason, with a command that shows one:\n"
        "          9  failed    ValueError\n"
        "             mops-helm study try 'out/sir grid' --task 3/14 --preset direct\n"
        "          1  poisoned  WorkerDied\n"
        "             mops-helm study try 'out/sir grid' --task 7/0 --preset direct\n"
        "1 tasks have two different results, such as 2/5: the model's output depends on more than its "
        "parameters and seed\n"
        "Skipped: out/sir grid/parts/a.parquet: torn: no footer\n"
        "Results:\n"
        "  out/sir grid/results/replicates.parquet"
    )
    assert found.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"counts": {"ok": 2, "failed": 0, "poisoned": 0, "pending": 0}}, 0),
        ({"counts": {"ok": 1, "failed": 1, "poisoned": 0, "pending": 0}}, 3),
        ({"counts": {"ok": 1, "failed": 0, "poisoned": 1, "pending": 0}}, 3),
        ({"counts": {"ok": 1, "failed": 0, "poisoned": 0, "pending": 1}, "interrupted": True}, 130),
    ],
)
def test_exit_codes(changes, code):
    assert Summary("s", "e/x", 2, **changes).exit_code == code


def test_what_to_type_next():
    done = Summary("/s", "e/x", 2, {"ok": 2, "failed": 0, "poisoned": 0, "pending": 0})
    assert study_summary.render_next_step(done, "RUN") == (
        "Nothing was left to do.\nNext:\n  mops-helm study results /s"
    )
    failed = Summary(
        "/s", "e/x", 2, {"ok": 0, "failed": 2, "poisoned": 0, "pending": 0}, run_progress=progress(2, 2)
    )
    overtaken = study_summary.render_next_step(done, "RUN", "my study.yaml")
    assert overtaken.endswith("Next:\n  mops-helm study results /s --spec 'my study.yaml'"), overtaken
    own = study_summary.render_next_step(replace(done, results=("r.parquet",)), "RUN", "study.yaml")
    assert own.endswith("mops-helm study results /s")
    assert study_summary.render_next_step(failed, "RUN") == "Next:\n  RUN --retry failed,poisoned"
    limit = study_summary.TimeLimit(60, "file")
    assert study_summary.render_next_step(failed, "RUN", "s", limit).endswith("  RUN --retry failed,poisoned")
    stopped = Summary("/s", "e/x", 2, {"ok": 1, "failed": 0, "poisoned": 0, "pending": 1}, interrupted=True)
    assert study_summary.render_next_step(stopped, "RUN") == (
        "Interrupted: 1 tasks are pending. Run the same command to continue:\n  RUN"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("values", "Next:\n  RUN --retry failed,poisoned --set executor.taskTimeoutSeconds=120"),
        (
            "file",
            "Tasks reached the time limit of 1 min 00 s. If they need longer, raise `timeout` in s.yaml "
            "first.\n"
            "Next:\n  RUN --retry failed,poisoned",
        ),
        (
            "release",
            "Tasks reached the time limit of 1 min 00 s. If they need longer, raise "
            "executor.taskTimeoutSeconds of the workers first.\nNext:\n  RUN --retry failed,poisoned",
        ),
    ],
)
def test_after_a_time_limit_the_next_command_has_a_longer_one_or_says_where_to_raise_it(source, text):
    counts = {"ok": 0, "failed": 0, "poisoned": 2, "pending": 0}
    failures = (Failure("TaskTimeout", "poisoned", 2, 0, 0),)
    ended = Summary("/s", "e/x", 2, counts, failures=failures, run_progress=progress(2, 2))
    limit = study_summary.TimeLimit(60, source)
    assert study_summary.render_next_step(ended, "RUN", "s.yaml", limit) == text


def test_preview_is_aligned_and_short():
    table = pa.table({"x": [1, 20], "name": ["a" * 40, "b"], "share": [0.123456789, 2.0]})
    assert study_results.render_preview(table) == (
        "   x             name     share\n   1  aaaaaaaaaaaa...  0.123457\n  20                b         2"
    )


def progress(done: int, total: int, failed: int = 0) -> Progress:
    return Progress(total, done - failed, failed, 0, done, 2.0, 2, 0)


def test_a_line_says_done_failed_rate_and_time_to_go():
    assert describe_progress(progress(500, 2000, failed=3)) == (
        "500 of 2,000 tasks done, 3 failed, 250 a second, 6.0 s to go"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.00123, "1.2 ms"),
        (0.014, "14 ms"),
        (0.142, "140 ms"),
        (0.894, "890 ms"),
        (0.998, "1.0 s"),
        (2.44, "2.4 s"),
        (59, "59 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_what_a_fast_run_did_is_in_plain_numbers():
    fast = Progress(20_000, 20_000, 0, 0, 20_000, 0.89, 2, 0)
    found = Summary(
        "/s", "e/x", 20_000, {"ok": 20_000, "failed": 0, "poisoned": 0, "pending": 0}, run_progress=fast
    )
    assert "This run: 20,000 tasks in 890 ms, 22,472 a second" in study_summary.render_summary(found, "table")


def test_lines_come_every_tenth():
    stream = io.StringIO()
    lines = ProgressLines(stream)
    for done in range(1, 1001):
        lines.progress(progress(done, 1000))
    assert len(stream.getvalue().splitlines()) == 10


def test_a_terminal_gets_a_bar_and_one_without_a_size_lines():
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        assert isinstance(choose_reporter(stream), ProgressLines)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        shown = choose_reporter(stream)
        shown.phase("workers")
        shown.phase("canary")
        shown.progress(progress(10, 40))
        shown.progress(progress(40, 40, failed=2))
        shown.phase("compacting")
        shown.close()
        stream.flush()
        seen = ""
        while "tables" not in seen:
            seen += os.read(controller, 65536).decode(errors="replace")
    os.close(controller)
    assert "100%" in seen and "40 of 40 tasks done, 2 failed, 20 a second" in seen
    assert seen.startswith("Starting workers") and " 25%|" in seen
    assert seen.rstrip().endswith("Writing the tables")
