"""The script that shows a polluter at work: run as a person runs it, with nothing of ours around."""

import os
import subprocess
import sys

import pytest

from executor_helpers import write_bundle
from modelops_dask.diagnose.causes import script
from modelops_dask.executors.wire import find_wire

CACHING = """
cache = {}

def wire(entrypoint, params, seed):
    if params["beta"] < 0:
        raise ValueError("beta")
    print("a model may print")
    return {"y": str(cache.setdefault(params["beta"], seed)), "z": b"x" * 1000}
"""
HEALTHY = "def wire(entrypoint, params, seed): return {'y': str(seed)}\n"


def call(beta: float, seed: int) -> tuple[str, dict, int]:
    return ("model/scenario", {"beta": beta, "name": "it's", "more": [1, None, True]}, seed)


def run(folder, bundle, polluters, victim) -> subprocess.CompletedProcess:
    path = folder / "reproduce.py"
    path.write_text(script.render_script(bundle, find_wire(bundle, victim[0]), polluters, victim))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-I", path], cwd=folder, env=variables, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "files",
    [
        {"wire.py": CACHING},
        {
            "src/model/main.py": CACHING,
            "src/model/__init__.py": "",
            ".modelops/manifest.json": '{"wire": "model.main:wire"}',
        },
        {"sub-folder/main.py": CACHING, ".modelops/manifest.json": '{"wire": "sub-folder/main.py:wire"}'},
        {"src/pkg/main.py": CACHING, ".modelops/manifest.json": '{"wire": "src/pkg/main.py:wire"}'},
    ],
    ids=["file", "module", "file of no module", "file of src"],
)
def test_it_shows_the_difference_and_exits_1(tmp_path, files):
    bundle = write_bundle(tmp_path / "bundle", files)
    done = run(tmp_path, bundle, [call(0.1, 1)], call(0.1, 2))
    assert done.returncode == 1, done.stderr
    assert "y: b'2'" in done.stdout and "y: b'1'" in done.stdout
    assert done.stdout.index("y: b'2'") < done.stdout.index("y: b'1'"), "alone first"
    assert "the results differ" in done.stdout


def test_it_exits_0_where_there_is_no_difference(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", {"wire.py": HEALTHY})
    done = run(tmp_path, bundle, [call(0.1, 1)], call(0.1, 2))
    assert (done.returncode, "the results are the same" in done.stdout) == (0, True), done.stderr


def test_a_failure_is_a_result_too(tmp_path):
    text = CACHING.replace('if params["beta"] < 0', "if cache")
    bundle = write_bundle(tmp_path / "bundle", {"wire.py": text})
    done = run(tmp_path, bundle, [call(0.1, 1)], call(0.1, 2))
    assert done.returncode == 1 and "ValueError" in done.stdout, done


def test_a_process_that_ends_is_a_result_too(tmp_path):
    text = CACHING.replace('if params["beta"] < 0:', "if cache:\n        import os; os._exit(7)\n    if 0:")
    bundle = write_bundle(tmp_path / "bundle", {"wire.py": text})
    done = run(tmp_path, bundle, [call(0.1, 1)], call(0.1, 2))
    assert done.returncode == 1 and "the process ended with status 7" in done.stdout, done
    bundle = write_bundle(tmp_path / "bundle", {"wire.py": "import os; os._exit(7)"})
    assert run(tmp_path, bundle, [call(0.1, 1)], call(0.1, 2)).returncode == 2


def test_it_keeps_to_python_39_and_says_what_it_is_for(tmp_path):
    import ast

    text = script.render_script(tmp_path, "wire.py:wire", [call(0.1, 1)], call(0.1, 2))
    tree = ast.parse(text, feature_version=(3, 9))
    assert "polluters" in ast.get_docstring(tree)
    assert "modelops" not in text.replace("modelops.wire", ""), "it needs nothing of ours"


BY_NAME = """
cache = {}
def simulate(beta, name, more, /, *, seed, scenario, rng):
    first = cache.setdefault(beta, seed)
    yield {"frame": dict({"x": [first] * 1000}), "at": object.__new__(object), "n": len(more)}
"""


def test_a_function_that_is_called_by_its_name(tmp_path):
    """Its results are compared whole, and without addresses, which differ from process to process."""
    victim = ("model.simulate/high", {"beta": 0.1, "name": "x", "more": [1]}, 2)
    polluter = ("model.simulate/high", {"beta": 0.1, "name": "x", "more": [1]}, 1)
    bundle = write_bundle(tmp_path / "bundle", {"model.py": BY_NAME})
    done = run(tmp_path, bundle, [polluter], victim)
    assert (done.returncode, "the results differ" in done.stdout) == (1, True), done
    healthy = write_bundle(
        tmp_path / "healthy", {"model.py": BY_NAME.replace("cache.setdefault(beta, seed)", "seed")}
    )
    done = run(tmp_path, healthy, [polluter], victim)
    assert (done.returncode, "the results are the same" in done.stdout) == (0, True), done
