"""Functions that a study calls by their names: which are called and how, and what is said of the others."""

import json
import random
import re

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.errors import BadInput
from modelops_dask.executors.functions import Signature, explain_names
from modelops_dask.executors.wire import find_wire
from modelops_dask.store.tables import as_table

KINDS = ["isolated_warm", "isolated_fork", "cold", "direct"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


def run(folder, bundle, entrypoint="model.simulate/baseline", kind="isolated_warm", seed=5, **params):
    return run_task(folder, bundle, entrypoint, kind, params, seed)


def run_task(folder, bundle, entrypoint, kind, params, seed=5):
    chosen = settings(folder, executor_type=kind)
    with executors.create(chosen) as executor:
        model = fetch(str(bundle), chosen.bundles_cache_dir)
        return executor.run(executors.Task(model, entrypoint, params, seed))


EVERYTHING = """
import json, random
def simulate(a, /, b, c=3, *args, d, e="five", seed, scenario, **more):
    return json.dumps([a, b, c, args, d, e, seed, scenario, more, random.random()])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_go_by_name_and_what_a_study_has_goes_where_the_signature_has_it(folder, tmp_path, kind):
    bundle = write_bundle(tmp_path / "bundle", {"model.py": EVERYTHING})
    params = {"a": 1, "b": [2], "d": None, "x": {"y": 1}}
    outcome = run(folder, bundle, "model.simulate/high", kind, **params)
    assert outcome.status == "ok", outcome.error
    draw = random.Random(5).random()  # the shared generator is seeded, as for a wire function
    expected = [1, [2], 3, [], None, "five", 5, "high", {"x": {"y": 1}}, draw]
    assert json.loads(value_of(outcome)) == expected


def value_of(outcome):
    """The single value that a function returned."""
    return as_table(outcome.outputs["result"])["value"][0].as_py()


# Bodies of model.py, and what model.simulate(x=2), of a task with seed 5, returns as the output `result`.
FORMS = {
    "no parameters of its own": ("def simulate(x): return x * 3", "6"),
    "a default": ("def simulate(x, y=10): return x + y", "12"),
    "any parameters": ("def simulate(**p): return repr(sorted(p))", "['x']"),
    "any parameters, and the seed": ("def simulate(seed, **p): return f'{seed} {sorted(p)}'", "5 ['x']"),
    "a seed with a default": ("def simulate(x, seed=0): return seed", "5"),
    "positional-only": ("def simulate(x, seed, /): return f'{x} {seed}'", "2 5"),
    "positional-only with a default": ("def simulate(y=1, x=0, /): return f'{y} {x}'", "1 2"),
    "keyword-only": ("def simulate(*, x): return x", "2"),
    "partial": ("from functools import partial\ndef f(k, x): return k * x\nsimulate = partial(f, 4)", "8"),
    "partial by name": (
        "from functools import partial\ndef f(k, x): return k * x\nsimulate = partial(f, k=4)",
        "8",
    ),
    "cached": ("from functools import lru_cache\n@lru_cache\ndef simulate(x): return x", "2"),
    "decorated": (
        "import functools\ndef d(f):\n    @functools.wraps(f)\n    def g(*a, **k): return f(*a, **k) + 1\n"
        "    return g\n@d\ndef simulate(x, y=5): return x + y",
        "8",
    ),
    "a static method": ("class M:\n    @staticmethod\n    def f(x): return x\nsimulate = M.f", "2"),
    "a class method": (
        "class M:\n    @classmethod\n    def f(cls, x): return cls.__name__\nsimulate = M.f",
        "M",
    ),
    "a bound method": ("class M:\n    def f(self, x): return x\nsimulate = M().f", "2"),
    "an object that can be called": ("class M:\n    def __call__(self, x): return x\nsimulate = M()", "2"),
    "lambda": ("simulate = lambda x: x", "2"),
    "a name of another module": ("from other import simulate", "other 2"),
    "annotations that cannot be evaluated": (
        "from __future__ import annotations\ndef simulate(x: Nowhere) -> Nothing: return x",
        "2",
    ),
    "attributes of its own": ("def simulate(x): return x\nsimulate.units = 'days'", "2"),
}


@pytest.mark.parametrize(("code", "expected"), FORMS.values(), ids=FORMS.keys())
def test_forms(folder, tmp_path, code, expected):
    other = "def simulate(x): return f'other {x}'"
    bundle = write_bundle(tmp_path / "bundle", {"model.py": code, "other.py": other})
    outcome = run(folder, bundle, x=2)
    assert outcome.status == "ok", outcome.error
    assert str(value_of(outcome)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_generators_of_the_module_are_seeded(folder, tmp_path, kind):
    code = "import random\nrng = random.Random()\ndef simulate(): return repr(rng.random())"
    bundle = write_bundle(tmp_path / "bundle", {"model.py": code})
    draws = [run(folder, bundle, kind=kind, seed=seed).outputs["result"] for seed in (5, 6, 5)]
    assert draws[0] == draws[2] != draws[1]


PLACES = {
    "a module": ({"model.py": "def f(): return 'here'"}, "model.f"),
    "src": ({"src/pkg/model.py": "def f(): return 'here'", "src/pkg/__init__.py": ""}, "pkg.model.f"),
    "a package": ({"pkg/__init__.py": "def f(): return 'here'"}, "pkg.f"),
    "a folder without __init__": ({"a/b.py": "def f(): return 'here'"}, "a.b.f"),
    "a method": ({"model.py": "class M:\n    @staticmethod\n    def f(): return 'here'"}, "model.M.f"),
    "an object of a module": ({"p/__init__.py": "class q:\n    f = lambda: 'here'"}, "p.q.f"),
    "wire.py without a wire function": ({"wire.py": "def f(): return 'here'"}, "wire.f"),
    "a module beside such a wire.py": (
        {"wire.py": "def length(): return 3", "m.py": "def f(): return 'here'"},
        "m.f",
    ),
}


@pytest.mark.parametrize(("files", "path"), PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("kind", ["isolated_warm", "direct"])
def test_places(folder, tmp_path, files, path, kind):
    outcome = run(folder, write_bundle(tmp_path / "bundle", files), f"{path}/baseline", kind)
    assert outcome.status == "ok", outcome.error
    assert value_of(outcome) == "here"


def test_an_installed_module_can_be_called(folder, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", {"data.csv": "1"})
    outcome = run(folder, bundle, "textwrap.indent/baseline", text="a", prefix="  ")
    assert (outcome.status, value_of(outcome)) == ("ok", "  a"), outcome.error


WIRE = "def wire(entrypoint, params, seed): return {'result': b'wire'}"


@pytest.mark.parametrize("kind", ["isolated_warm", "direct"])
def test_a_wire_function_wins(folder, tmp_path, kind):
    model = {"model.py": "def simulate(x): return 'by name'"}
    named = write_bundle(tmp_path / "named", {**model, "wire.py": WIRE})
    installed = write_bundle(
        tmp_path / "installed",
        {
            **model,
            "w.py": WIRE,
            "m-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: m\nVersion: 1\n",
            "m-1.dist-info/entry_points.txt": "[modelops.wire]\nm = w:wire\n",
        },
    )
    for bundle in (named, installed):
        assert run(folder, bundle, kind=kind, x=1).outputs["result"] == b"wire"
    assert find_wire(named, "model.simulate/baseline") == "wire.py:wire"
    assert find_wire(installed, "model.simulate/baseline") == "model.simulate()"


@pytest.mark.parametrize("kind", KINDS)
def test_two_functions_of_a_bundle_and_two_scenarios_of_a_function(folder, tmp_path, kind):
    code = "def f(scenario): return 'f ' + scenario\ndef g(scenario): return 'g ' + scenario"
    bundle = write_bundle(tmp_path / "bundle", {"model.py": code})
    chosen = settings(folder, executor_type=kind)
    model = fetch(str(bundle), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        for _ in range(2):
            for entrypoint in ("model.f/a", "model.g/a", "model.f/b"):
                outcome = executor.run(executors.Task(model, entrypoint, {}, 1))
                assert value_of(outcome) == f"{entrypoint[6]} {entrypoint[8]}", outcome.error


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_yields_records(folder, tmp_path, kind):
    code = "def simulate(n):\n    for day in range(n):\n        yield {'day': day, 'x': 0.5}"
    outcome = run(folder, write_bundle(tmp_path / "bundle", {"model.py": code}), kind=kind, n=2)
    assert outcome.status == "ok", outcome.error
    assert as_table(outcome.outputs["result"]).to_pylist() == [{"day": 0, "x": 0.5}, {"day": 1, "x": 0.5}]


def test_an_output_named_error_is_an_output(folder, tmp_path):
    """ModelOps' conventions are those of its wire functions."""
    bundle = write_bundle(
        tmp_path / "bundle", {"model.py": "def simulate(x): return {'error': b'x', 'metadata': b''}"}
    )
    for kind in KINDS:
        outcome = run(folder, bundle, kind=kind, x=1)
        assert (outcome.status, dict(outcome.outputs)) == ("ok", {"error": b"x", "metadata": b""}), (
            outcome.error
        )


# What cannot be called, and what is said of it.
HIDES = "def d(f):\n    def g(*args, **params): return f(*args, **params)\n    return g\n"
REFUSED = {
    "a class": ("class simulate: pass", "is a class; name a function that makes a simulate"),
    "async": ("async def simulate(x): return x", r"asyncio.run\(simulate"),
    "an async generator": ("async def simulate(x): yield x", "async function"),
    "async, decorated": (
        "import functools\nasync def f(x): pass\nsimulate = functools.wraps(f)(lambda *a, **k: f(*a, **k))",
        "async function",
    ),
    "async, partly applied": (
        "import functools\nasync def f(y, x): return x\nsimulate = functools.partial(f, 1)",
        "async function",
    ),
    "a number": ("simulate = 3", "not a function but has type int"),
    "a module": ("import json as simulate", "is a module; name one of its functions"),
    "a name that is not there": (
        "def simulat(x): pass",
        "has no function simulate; it has simulat; did you mean simulat?",
    ),
    "a module with nothing": ("", "has no function simulate; it has none"),
    "arguments of the command line": (
        "import argparse\ndef simulate():\n    p = argparse.ArgumentParser()\n    p.parse_args()",
        "reads its parameters from the command line",
    ),
    "arguments by sys": (
        "import sys\ndef simulate(argv=None):\n    return sys.argv",
        "from the command line",
    ),
    "click": (
        "import click\n@click.command()\n@click.option('--x')\ndef simulate(x): pass",
        "a command-line command",
    ),
    "no signature": ("simulate = max", "cannot be read"),
    "a decorator that hides the seed": (
        f"{HIDES}@d\ndef simulate(x, seed): return seed",
        r"hides its parameter seed.* add @functools\.wraps\(f\)",
    ),
    "a decorator that hides a seed with a default": (
        f"{HIDES}@d\n@d\ndef simulate(x, seed=1): return seed",
        "hides its parameter seed",
    ),
}


@pytest.mark.parametrize(("code", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_before_anything_runs(folder, tmp_path, code, message):
    with pytest.raises(BadInput, match=message):
        run(folder, write_bundle(tmp_path / "bundle", {"model.py": code}), kind="direct", x=2)


@pytest.mark.parametrize("kind", ["isolated_warm", "direct"])
def test_a_failure_for_want_of_a_hidden_seed_says_what_to_add(folder, tmp_path, kind):
    code = (
        "class D:\n    def __init__(self, f): self.f = f\n"
        "    def __call__(self, **params): return self.f(**params)\n"
        "@D\ndef simulate(x, seed): return seed"
    )
    outcome = run(folder, write_bundle(tmp_path / "bundle", {"model.py": code}), kind=kind, x=2)
    assert "argument: 'seed'; model.simulate hides its parameters" in outcome.error
    assert "add @functools.wraps(f)" in outcome.error


def test_an_object_that_a_method_needs_is_not_passed_as_a_parameter(folder, tmp_path):
    code = "class K:\n    def run(self, a): return a"
    bundle = write_bundle(tmp_path / "bundle", {"model.py": code})
    outcome = run_task(folder, bundle, "model.K.run/baseline", "isolated_warm", {"self": 1, "a": 2})
    assert outcome.status == "failed" and "model.K.run is a method, which needs an object" in outcome.error
    signature = Signature((), ("self", "a"), frozenset(("self", "a")), False)
    problems = explain_names("model.K.run", signature, ["self", "a"])
    assert [name for name, _ in problems] == ["self"]


def test_a_misspelt_module_lists_those_of_the_bundle(folder, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", {"modle.py": "", "src/util/__init__.py": "", "data.csv": "1"})
    with pytest.raises(BadInput, match=r"no module model .*the bundle has modle, util; did you mean modle\?"):
        run(folder, bundle)
    with pytest.raises(BadInput, match="modle has no function sub; it has none"):
        run(folder, bundle, "modle.sub.f/baseline")


def test_a_module_that_hides_behind_one_of_python_is_named(folder, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", {"signal.py": "def simulate(): return 1"})
    with pytest.raises(
        BadInput, match=r"signal has no function simulate.*not signal\.py of the bundle.*rename"
    ):
        run(folder, bundle, "signal.simulate/baseline")


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork", "cold"])
@pytest.mark.parametrize("imports", ["", "import json, traceback\n", "import linecache\n"])
def test_a_failure_is_told_also_where_the_bundle_has_modules_of_those_names(folder, tmp_path, imports, kind):
    """And afterwards the model has its own, also if it had not imported them before."""
    files = {f"{name}.py": f"own = {name!r}" for name in ("json", "traceback", "linecache", "inspect")}
    code = (
        f"{imports}import functools\n"
        "def d(f):\n    @functools.wraps(f)\n    def g(*a, **k): return f(*a, **k)\n    return g\n"
        "@d\ndef simulate(x, seed):\n    if x: raise ValueError('ö')\n    import json\n    return json.own"
    )
    bundle = write_bundle(tmp_path / "bundle", {**files, "model.py": code})
    chosen = settings(folder, executor_type=kind)
    model = fetch(str(bundle), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        for x in (1, 0, 1):
            task = executors.Task(model, "model.simulate/baseline", {"x": x}, 5)
            outcome = executor.run(task)
            if x:
                assert (outcome.status, outcome.reason) == ("failed", "ValueError"), outcome.error
                assert "raise ValueError" in outcome.error and outcome.error.endswith("ValueError: ö\n")
            elif kind != "isolated_fork":  # whose zygote has imported json before the model
                assert value_of(outcome) == "json", outcome.error


def test_prepare_is_not_called(folder, tmp_path):
    code = "def prepare(data=1): raise ValueError\ndef simulate(): return 1"
    outcome = run(folder, write_bundle(tmp_path / "bundle", {"model.py": code}), kind="isolated_fork")
    assert (outcome.status, value_of(outcome), outcome.fallback) == ("ok", 1, ""), outcome.error


def test_what_the_models_import_lacks_is_a_failure_to_start(folder, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", {"model.py": "import nowhere_at_all\ndef simulate(): pass"})
    outcome = run(folder, bundle)
    assert (outcome.status, outcome.failure, outcome.reason) == ("failed", "start", "ModuleNotFoundError")


MISFITS = {
    "unknown": ({"x": 1, "r0": 2}, "model.simulate has no parameter r0; it has x, y$"),
    "near": ({"x": 1, "yy": 2}, r"has no parameter yy; it has x, y; did you mean y\?"),
    "missing": ({"y": 1}, "needs a value for x, which has no default"),
    "seed": ({"x": 1, "seed": 2}, "seed cannot be a parameter of a study"),
    "scenario": ({"x": 1, "scenario": 2}, "scenario cannot be a parameter of a study"),
}


@pytest.mark.parametrize(
    ("kind", "misfit"), [("isolated_warm", name) for name in MISFITS] + [(kind, "near") for kind in KINDS[1:]]
)
def test_parameters_that_do_not_fit_are_a_failure_before_the_function_is_entered(
    folder, tmp_path, kind, misfit
):
    params, message = MISFITS[misfit]
    code = "def simulate(x, y=1, *, seed):\n    print('entered')\n    return x"
    bundle = write_bundle(tmp_path / "bundle", {"model.py": code})
    outcome = run_task(folder, bundle, "model.simulate/baseline", kind, params)
    assert (outcome.status, outcome.failure, outcome.reason) == ("failed", "start", "CannotCall")
    assert re.search(f"^CannotCall: .*{message}", outcome.error, re.MULTILINE), outcome.error
    assert "entered" not in outcome.log
