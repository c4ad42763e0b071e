"""Studies of a function that is called by its name, through the commands that look at results."""

import json

import pytest

from executor_helpers import write_bundle
from modelops_dask import run as run_study
from modelops_dask.bundle import fetch
from modelops_dask.diagnose.trials import probe
from modelops_dask.errors import BadInput
from modelops_dask.executors.wire import find_wire
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.study import Study
from study_helpers import SMALL, mops_helm

# A task finds what the first one of its process left.
KEEPING = """
import random
kept = {}

def simulate(beta, days=3, *, seed):
    first = kept.setdefault("beta", beta)
    print("simulating", seed)
    return [{"day": day, "x": first * random.random()} for day in range(days)]
"""
STUDY = "model: model.simulate\ngrid: {beta: [1, 2, 3, 4]}\nreplicates: 3\n"
IGNORE = {".modelopsignore": "cache\n"}


def test_the_checks_of_results_work_on_such_a_study(tmp_path):
    write_bundle(tmp_path, {"model.py": KEEPING, "study.yaml": STUDY, **IGNORE})
    one_process = [*SMALL, "--set", "workers.processes=1"]
    done = mops_helm("study", "run", "study.yaml", *one_process, cwd=tmp_path)
    assert done.returncode == 3 and "tasks that ran before it in its process changed" in done.stdout, done
    store = f"out/{tmp_path.name}"
    verified = mops_helm(
        "study", "verify", store, "--sample", "3", "--set", "executor.environment=image", cwd=tmp_path
    )
    assert verified.returncode == 3 and "ORDER" in verified.stdout, verified
    tried = mops_helm("study", "try", store, "--task", "3/0", *SMALL, "-o", "json", cwd=tmp_path)
    assert (
        tried.returncode == 0 and "Calls model.simulate(beta, days=3, *, seed) of model.py:5" in tried.stderr
    )
    assert "simulating" in tried.stderr
    planned = mops_helm("study", "plan", "study.yaml", "-o", "json", cwd=tmp_path)
    assert json.loads(planned.stdout)["calls"] == {
        "function": "model.simulate",
        "is_wire": False,
        "command": "",
        "parameters": "beta, days=3, *, seed",
        "place": "model.py:5",
        "other": "",
    }


@pytest.mark.parametrize(
    "outputs, returncode, message",
    [
        ("[siize]", 4, "did you mean size?"),
        ("[never]", 3, "never"),
        ("[size, never]", 3, "never"),
        ("[size]", 0, ""),
    ],
    ids=["misspelt", "unknown", "one of two", "right"],
)
def test_outputs_that_no_task_returns_do_not_end_as_a_success(tmp_path, outputs, returncode, message):
    study = f"model: model.simulate\ngrid: {{a: [1, 2]}}\nreplicates: 2\noutputs: {outputs}\n"
    model = "def simulate(a, seed): return {'size': [{'n': seed}], 'curve': [{'day': 1}]}\n"
    write_bundle(tmp_path, {"model.py": model, "study.yaml": study, **IGNORE})
    done = mops_helm("study", "run", "study.yaml", *SMALL, cwd=tmp_path)
    assert done.returncode == returncode, done
    assert message in done.stdout + done.stderr


def test_a_probe_of_diagnosis_calls_it_as_a_runner_does(tmp_path):
    write_bundle(tmp_path / "bundle", {"model.py": KEEPING})
    settings = Settings(executor_environment="image", bundles_cache_dir=tmp_path / "cache")
    bundle = fetch(str(tmp_path / "bundle"), settings.bundles_cache_dir)
    calls = [("model.simulate/baseline", {"beta": beta}, 7) for beta in (1, 2, 2)]
    request = probe.ProbeRequest(changes=True, trace=True, memory=True)
    result = probe.run(bundle, settings, calls, request, timeout_seconds=120)
    assert [answer.status for answer in result.answers] == ["ok"] * 3, result
    first, second, third = (answer.outputs for answer in result.answers)
    assert first == second == third, "each finds the first one's beta, and draws by its seed"
    assert any("beta" in str(change) for change in result.changes)
    assert find_wire(bundle.path, "model.simulate/baseline") == "model.simulate()"


def test_a_run_ends_after_two_attempts_where_parameters_do_not_fit(tmp_path):
    """Where the source does not tell: the signature is that of what is wrapped."""
    code = "from functools import partial\ndef f(a, beta): return beta\nsimulate = partial(f, 1)\n"
    write_bundle(tmp_path, {"model.py": code, "study.yaml": STUDY.replace("beta:", "gamma:"), **IGNORE})
    done = mops_helm("study", "run", "study.yaml", *SMALL, cwd=tmp_path)
    assert done.returncode == 4, done
    assert "CannotCall: model.simulate has no parameter gamma; it has beta" in done.stderr


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that can be imported, of a name that no other test has."""
    name = f"model_of_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / "bundle"
    write_bundle(folder, {f"{name}.py": "def simulate(beta, *, seed): return {'x': beta, 'seed': seed}\n"})
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(tmp_path)
    return __import__(name)


def test_a_function_of_a_module_runs_from_python(tmp_path, module):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    where = {"settings": settings, "shape": Shape(1, 1, 1, 1 << 30)}
    done = run_study(Study(grid={"beta": [1, 2]}, name="a"), "a", model=module.simulate, **where)
    assert done.ok and done.table().sort_by("param_beta")["x"].to_pylist() == [1, 2]
    assert done.study.spec.bundle == str(tmp_path / "bundle")
    assert Study(grid={"beta": [1]}, model=module.simulate).spec.model == f"{module.__name__}.simulate"
    with pytest.raises(BadInput, match=r"grid\.betta: .* did you mean beta\?"):
        run_study(Study(grid={"betta": [1]}), "b", model=module.simulate, **where)
    with pytest.raises(BadInput, match="does not name a model"):
        run_study(Study(grid={"beta": [1]}), "b", **where)


def here(beta):
    return beta


def test_a_function_that_cannot_be_imported_is_refused_with_what_to_do(module):
    def closure(beta):
        return beta

    notebook = type(here)(here.__code__, {"__name__": "__main__"}, "spread")
    notebook.__module__ = "__main__"
    cases = {
        "a lambda function": lambda beta: beta,
        "defined inside another function": closure,
        "defined in this notebook, script or session": notebook,
        "has no name": (3).__add__.__class__.__call__.__get__(3) if False else _nameless(),
    }
    for words, function in cases.items():
        with pytest.raises(BadInput, match=words) as refusal:
            Study(grid={"beta": [1]}, model=function)
        assert "%%writefile model.py" in str(refusal.value) and "from model import" in str(refusal.value)
    vars(module)["gone"], gone = None, module.simulate
    gone.__qualname__ = "elsewhere"
    with pytest.raises(BadInput, match="is not in model_of"):
        Study(grid={"beta": [1]}, model=gone)


def _nameless():
    from functools import partial

    return partial(here, 1)
