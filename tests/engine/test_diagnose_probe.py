"""Probes: the same process as a task's, with a look inside, and an end in time."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from executor_helpers import is_gone, settings, write_bundle
from helpers import wait_for
from modelops_dask import bundle, executors
from modelops_dask.diagnose.trials import inside, probe
from modelops_dask.errors import BadInput
from probe_helpers import probed, said

SURROUNDINGS = """
    import json, os, sys

    def wire(entrypoint, params, seed):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MODELOPS_")}
        seen = [os.getcwd(), sys.argv, sys.executable, sys.path, sorted(variables.items()), list(sys.flags)]
        print("a line")
        return {"seen": json.dumps(seen)}
"""


def test_a_probed_model_finds_what_it_finds_in_a_runner(tmp_path):
    found = probed(tmp_path, SURROUNDINGS)
    chosen = settings(tmp_path, executor_environment="image", seed_globals=False)
    one = bundle.fetch(str(tmp_path / "source"), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        outcome = executor.run(executors.Task(one, "model/scenario", {"beta": 0.1}, 1))
    seen = json.loads(outcome.outputs["seen"])
    own = seen[0]  # a runner has its own copy of the bundle, and a temporary folder beside it
    seen = json.loads(json.dumps(seen).replace(own, str(one.path)))
    seen[4] = [pair for pair in seen[4] if pair[0] != "TMPDIR"]
    wanted = json.loads(found.answers[0].outputs["seen"])
    wanted[4] = [pair for pair in wanted[4] if pair[0] != "TMPDIR"]
    assert own != str(one.path) and seen == wanted
    assert (found.reason, len(found.answers), found.log) == ("", 2, "a line\na line\n")
    assert all(10 << 20 < resident < 1 << 30 for resident in found.resident_bytes)


def test_a_failing_task_does_not_end_the_run(tmp_path):
    found = probed(
        tmp_path,
        """
        def wire(entrypoint, params, seed):
            if seed == 2:
                raise ValueError("no")
            return {"y": str(seed)}
        """,
        seeds=(1, 2, 3),
    )
    assert [answer.status for answer in found.answers] == ["ok", "failed", "ok"]
    assert found.answers[1].reason == "ValueError"


def test_a_hanging_task_ends_with_all_it_started_and_what_was_said_before_is_kept(tmp_path):
    found = probed(
        tmp_path,
        """
        import pathlib, subprocess, sys, time

        def wire(entrypoint, params, seed):
            if seed == 2:
                child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
                pathlib.Path(__file__).with_name("pid").write_text(str(child.pid))
                time.sleep(1000)
            return {"y": str(seed)}
        """,
        timeout_seconds=5,
    )
    assert found.reason == "TaskTimeout"
    assert [answer.outputs for answer in found.answers] == [{"y": b"1"}]
    (pid,) = tmp_path.glob("bundles/*/pid")
    wait_for(lambda: is_gone(int(pid.read_text())), "end of what the task started")


@pytest.mark.parametrize(
    "wire, reason",
    [
        ("import os; os._exit(7)", "exited with status 7"),
        ("raise ImportError('no such library')", "ImportError"),
        ("def wire(*_): import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
    ],
)
def test_how_a_process_ended_is_said(tmp_path, wire, reason):
    assert probed(tmp_path, wire).reason == reason


def test_a_bundle_without_a_wire_function_is_refused(tmp_path):
    with pytest.raises(BadInput, match="wire"):
        probed(tmp_path, "wire = 3")


def test_the_model_does_not_find_the_engine_in_its_process(tmp_path):
    wire = """
        import sys

        def wire(entrypoint, params, seed):
            return {"engine": str([name for name in sys.modules if "modelops" in name])}
    """
    for ask in (
        probe.ProbeRequest(changes=True),
        probe.ProbeRequest(trace=True),
        probe.ProbeRequest(frozen=True),
    ):
        found = probed(tmp_path, wire, ask=ask)
        assert found.answers and found.answers[0].outputs == {"engine": b"[]"}, said(found)


def test_a_model_may_have_the_names_of_our_modules(tmp_path):
    found = probed(
        tmp_path,
        """
        import shown, snapshot

        def wire(entrypoint, params, seed):
            snapshot.kept.append(shown.value)
            return {"y": str(len(snapshot.kept))}
        """,
        ask=probe.ProbeRequest(changes=True),
        shown="value = 1",
        snapshot="kept = []",
    )
    assert [str(change) for change in found.changes] == ["module snapshot: kept: [] -> [1]"], said(found)


def test_what_runs_inside_needs_only_the_standard_library_of_python_39():
    for file in Path(inside.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text(), feature_version=(3, 9))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for imported in names:
                ours = imported.startswith("modelops_dask.diagnose.trials.inside.")
                assert ours or imported.partition(".")[0] in sys.stdlib_module_names, (file, imported)
        assert not any(isinstance(node, ast.Match) for node in ast.walk(tree)), file


def test_the_bundles_own_interpreter_needs_nothing_of_ours(tmp_path):
    wire = (
        "import importlib.util, sys\n"
        "kept = []\n"
        "def wire(entrypoint, params, seed):\n"
        "    kept.append(seed)\n"
        "    found = importlib.util.find_spec('modelops_dask')\n"
        "    return {'y': str((len(kept), found, sys.prefix != sys.base_prefix))}\n"
    )
    source = write_bundle(tmp_path / "source", {"wire.py": wire})
    chosen = settings(tmp_path, seed_globals=False)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    calls = [("model/scenario", {}, seed) for seed in (1, 2)]
    for ask in (
        probe.ProbeRequest(changes=True),
        probe.ProbeRequest(trace=True),
        probe.ProbeRequest(frozen=True),
    ):
        found = probe.run(one, chosen, calls, ask, timeout_seconds=120)
        assert [answer.outputs["y"] for answer in found.answers] == [
            b"(1, None, True)",
            b"(2, None, True)",
        ], said(found)


def test_global_generators_are_seeded_if_the_settings_say_so(tmp_path):
    text = "import random\ndef wire(entrypoint, params, seed): return {'y': str(random.random())}\n"
    source = write_bundle(tmp_path / "source", {"wire.py": text})
    chosen = settings(tmp_path, executor_environment="image")
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    calls = [("model/scenario", {}, 1)]

    def results(seeded: bool) -> set[bytes]:
        own = replace(chosen, seed_globals=seeded)
        return {probe.run(one, own, calls, timeout_seconds=120).answers[0].outputs["y"] for _ in range(2)}

    assert len(results(True)) == 1
    assert len(results(False)) == 2
