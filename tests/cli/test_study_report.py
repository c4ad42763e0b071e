"""`study report`: its page, looked at in a real browser (headless Chromium), with hostile names, errors."""

import errno
import html
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from markupsafe import escape

from modelops_dask.plan import spec
from modelops_dask.report import figures, measurement, report, space
from modelops_dask.report import html as page_html
from modelops_dask.report.timeline import Timeline
from modelops_dask.store import parts, study
from modelops_dask.store.files import Store
from modelops_dask.store.parts import Attempt
from mops_helm.main import main

MIB = 2**20
LIMIT = 800 * MIB
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NAMES = ["beta", "gamma", f"x{HOSTILE}"]
# Runs in the page: waits for bokeh, then says what every figure's canvas shows, before and after a choice.
PROBE = """
<script>
window.addEventListener("load", () => {
  const canvases = (root) => [...root.querySelectorAll("*")].flatMap((e) =>
    [...(e.tagName == "CANVAS" ? [e] : []), ...(e.shadowRoot ? canvases(e.shadowRoot) : [])])
  const drawn = () => [...document.querySelectorAll("section")].filter((s) => canvases(s).length)
  const colours = () => drawn().map((s) => {
    const seen = new Set()
    for (const canvas of canvases(s)) {
      if (!canvas.width || !canvas.height) continue
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
      for (let i = 0; i < pixels.length; i += 4) {
        if (pixels[i + 3] == 255) seen.add(`${pixels[i]},${pixels[i + 1]},${pixels[i + 2]}`)
      }
    }
    return [s.querySelector("h2").textContent, [...seen].slice(0, 300)]
  })
  const tell = (found) => {
    const place = document.createElement("pre")
    place.id = "probe"
    place.textContent = JSON.stringify(found)
    document.body.append(place)
  }
  const look = () => {
    const bokeh = Bokeh.documents[0]
    const axes = () => bokeh.get_model_by_name("map")?.below[0].axis_label
    const found = {title: document.title, figures: colours(), before: axes()}
    const choice = bokeh.get_model_by_name("columns")
    if (choice) choice.value = choice.options[2] ?? choice.options[0]
    setTimeout(() => tell({...found, after: axes()}), 500)
  }
  const wait = () => window.Bokeh?.documents[0]?.is_idle ? setTimeout(look, 100) : setTimeout(wait, 50)
  wait()
})
</script>
"""


def make(folder: Path) -> Store:
    """A store of a study in two spans a day apart: some tasks fail once, those of large beta die."""
    path = folder / "spec.yaml"
    bounds = {name: {"low": 0.1, "high": 1.0} for name in NAMES}
    sobol = {"n": 64, "parameters": bounds}
    path.write_text(
        json.dumps({"name": "s", "model": "m.s", "scenario": "b", "replicates": 4, "sobol": sobol})
    )
    files = Store(str(folder / "store"))
    plan = study.begin(files, spec.load(path), "sha256:" + "a" * 64)
    clock = time.time() - 200_000
    found = []
    for number, task in enumerate(plan.tasks([(0, plan.n_sets * plan.replicates)])):
        clock += 0.3 + 86_400 * (number == 100)
        common = {
            "executor": "isolated_warm",
            "preset": "simulation",
            "threads": 1,
            "environment": "abc",
            "limit_bytes": LIMIT if number % 50 else 2 * LIMIT,
            "seconds": 0.25,
            "ended": clock,
        }
        where = (task.set, task.replicate, task.seed)
        if task.params["beta"] > 0.8:
            found.append(Attempt(*where, "poisoned", reason="TaskOOM", peak_bytes=LIMIT, **common))
            continue
        if number % 20 == 0:
            error = f"Traceback (most recent call last):\nValueError: {HOSTILE}"
            found.append(Attempt(*where, "failed", reason=f"Value{HOSTILE}", error=error, **common))
        found.append(Attempt(*where, "ok", outputs={"y": b"1"}, peak_bytes=200 * MIB, **common))
    for start in range(0, len(found), 50):
        parts.write(files, found[start : start + 50])
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Store:
    return make(tmp_path_factory.mktemp("report"))


def test_the_page_says_the_numbers_and_escapes_what_models_say(files, tmp_path):
    to = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["study", "report", files.location(), "--to", str(to)])
    assert (done.exit_code, done.stdout) == (0, f"{to}\n")
    page = to.read_text()
    assert "<b>256</b><span>tasks</span>" in page
    poisoned = int(re.search(r"<b>(\d+)</b><span>poisoned</span>", page)[1])
    assert poisoned > 20
    assert f"<b>{256 - poisoned}</b><span>ok</span>" in page
    assert "peak memory (limit 1,600 MiB)" in page and "isolated_warm" in page and "simulation" in page
    assert "Limit of memory: 800 MiB a task, for some up to 1,600 MiB." in page
    assert "pauses, which are left out (1 d)" in page or "left out (24 h)" in page
    assert str(escape(HOSTILE)) in page, "the traceback is there"
    assert "<script>document.title" not in page and "<img src=x" not in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page), "nothing is fetched"


def test_to_standard_output_and_a_store_without_a_study(files, tmp_path):
    done = CliRunner().invoke(main, ["study", "report", files.location(), "--to", "-"])
    assert done.exit_code == 0 and done.stdout.startswith("<!doctype html>") and "</html>" in done.stdout
    done = CliRunner().invoke(main, ["study", "report", str(tmp_path)])
    assert done.exit_code == 2 and "has no study" in done.stderr


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("none/page.html", "folder none does not exist"),
        ("file/page.html", "folder file does not exist"),
        ("/proc/page.html", "No such file or directory"),  # root, too, can make no file there
    ],
)
def test_a_place_that_cannot_be_written_is_named_with_the_reason(files, to, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, ["study", "report", files.location(), "--to", to])
    assert done.exit_code == 2, done.output
    assert done.stderr.endswith(f"Error: Invalid value for '--to': {to}: {why}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_page_that_cannot_be_written_in_the_end_is_an_error_in_a_line(files, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "page.html").write_text("before")
    monkeypatch.setattr(os, "replace", full)
    done = CliRunner().invoke(
        main, ["study", "report", files.location(), "--to", str(tmp_path / "page.html")]
    )
    assert (done.exit_code, done.stderr) == (2, f"{tmp_path / 'page.html'}: No space left on device\n")
    assert (tmp_path / "page.html").read_text() == "before"


def test_a_study_of_which_nothing_ran_yet(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("name: s\nmodel: m.s\nscenario: b\nsets: [{a: 1}, {a: 2}]\n")
    files = Store(str(tmp_path / "store"))
    study.begin(files, spec.load(path), "sha256:" + "a" * 64)
    page = report(files)
    assert "No task has run yet." in page and "<b>2</b><span>pending</span>" in page
    assert "<canvas" not in page and len(page) < 10_000
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    done = CliRunner().invoke(main, ["study", "report", files.location(), "--to", str(pipe)])
    assert done.exit_code == 0 and pipe.is_fifo(), "what is no file is written to, not replaced"
    assert os.read(reader, 20_000).decode().endswith("</html>\n")
    os.close(reader)


def test_many_short_tasks_are_told_in_plain_numbers(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("name: s\nmodel: m.s\nscenario: b\nreplicates: 2000\nsets: [{a: 1}]\n")
    files = Store(str(tmp_path / "store"))
    plan = study.begin(files, spec.load(path), "sha256:" + "a" * 64)
    tasks = plan.tasks([(0, 2000)])
    parts.write(files, [Attempt(t.set, t.replicate, t.seed, "ok", seconds=0.01, ended=1000.0) for t in tasks])
    assert "<b>20,000</b><span>attempts per second</span>" in report(files)
    assert page_html.format_duration(0.9996) == "1 s" and page_html.format_duration(0.142) == "142 ms"


def test_in_a_browser_every_figure_is_drawn_and_the_map_follows_a_choice(files, tmp_path):
    if not CHROMIUM:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    page = tmp_path / "page.html"
    before, _, after = report(files).rpartition("</body>")
    page.write_text(f"{before}{PROBE}</body>{after}")
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}"),
        *(
            "--virtual-time-budget=60000",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--window-size=1280,2000",
            "--dump-dom",
            page.as_uri(),
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert not [line for line in console if "INFO:CONSOLE" not in line or "rror" in line], console
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert probe, done.stderr[-2000:]
    seen = json.loads(html.unescape(probe[1]))
    assert seen["title"] == "store: study report", "nothing of a model ran in the page"
    drawn = {title: set(found) for title, found in seen["figures"]}
    ok, bad, limit = (rgb(c) for c in (figures.OK_COLOR, figures.BAD_COLOR, figures.LIMIT_COLOR))
    assert {ok, bad} <= drawn["Throughput"]
    assert ok in drawn["Duration"] and bad not in drawn["Duration"]
    assert {ok, bad, limit} <= drawn["Memory"]
    assert len(drawn["Outcome over the parameter space"]) > 5, "cells of several colours"
    assert (seen["before"], seen["after"]) == ("beta", NAMES[2])


def rgb(colour: str) -> str:
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))


def test_outcomes_by_parameters_add_up(files):
    measured = measurement.measure(files)
    maps = space.map_outcomes(measured.plan, measured.by_set)
    assert set(maps.axes) == set(NAMES) and len(maps.cells) == 3
    for cells in maps.cells.values():
        assert sum(cells["sets"]) == 64
    cells = maps.cells["beta", "gamma"]
    labels = [float(text) for text in maps.axes["beta"].labels]
    for x, share in zip(cells["x"], cells["share"], strict=True):
        assert share == 0 or labels[x] > 0.6


@pytest.mark.parametrize(
    ("sets", "axes"),
    [
        ("[{a: 1, b: x}, {a: 2, b: z}]", {"a"}),  # text is no axis
        ("[{a: 1, b: true}, {a: 2, b: false}]", {"a"}),
        ("[{a: 1}, {a: 2, c: 3}]", {"a"}),  # c is not in every set
        ("[{a: 1, b: 5}, {a: 1, b: 6}]", {"b"}),  # a is the same
        ("[{b: x}, {b: z}]", set()),
    ],
)
def test_what_counts_as_swept(tmp_path, sets, axes):
    path = tmp_path / "spec.yaml"
    path.write_text(f"name: s\nmodel: m.s\nscenario: b\nsets: {sets}\n")
    files = Store(str(tmp_path / "store"))
    plan = study.begin(files, spec.load(path), "sha256:" + "a" * 64)
    parts.write(files, [Attempt(t.set, 0, t.seed, "ok", seconds=1.0) for t in plan.tasks([(0, 2)])])
    measured = measurement.measure(files)
    assert set(space.map_outcomes(measured.plan, measured.by_set).axes) == axes
    assert "</html>" in report(files)


def test_counts_quantiles_and_times_of_a_million_attempts_stay_small_and_right():
    seed = int(np.random.default_rng().integers(2**32))
    print("seed", seed)
    random = np.random.default_rng(seed)
    histogram, timeline = measurement.LogHistogram(), Timeline()
    seconds = random.lognormal(-1, 1, 1_000_000)
    ended = 1.8e9 + np.cumsum(seconds / 100)
    ok = random.random(len(seconds)) < 0.9
    for start in range(0, len(seconds), 50_000):
        chunk = slice(start, start + 50_000)
        histogram.add(seconds[chunk])
        timeline.add(ended[chunk], seconds[chunk], ok[chunk])
    for q in (0.05, 0.5, 0.95):
        assert histogram.quantile(q) == pytest.approx(np.quantile(seconds, q), rel=0.02)
    assert histogram.largest == seconds.max() and len(histogram.counts) < 3000
    bins = timeline.compute_bins()
    assert len(bins.ok) <= 150 and not bins.pauses
    assert bins.ok.sum() * bins.width == pytest.approx(ok.sum())
    assert bins.not_ok.sum() * bins.width == pytest.approx((~ok).sum())


def test_pauses_are_cut_out_of_the_time_line_and_long_tasks_are_no_pause():
    timeline = Timeline()
    timeline.add(np.array([1000.0, 5000.0]), np.array([10.0, 3990.0]), np.array([True, True]))
    timeline.add(np.array([90_010.0]), np.array([10.0]), np.array([False]))
    assert timeline.active_seconds == 990 + 0 + 4010 - 990 + 10
    bins = timeline.compute_bins()
    ((at, length),) = bins.pauses
    assert (at, length) == (4010, 85_000)
    assert bins.ok.sum() * bins.width == pytest.approx(2) and bins.not_ok[-1] > 0
