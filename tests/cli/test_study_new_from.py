"""`study new --from`: a study of a function that exists, in a folder with other files."""

import random
import shlex
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from executor_helpers import write_bundle
from modelops_dask.bundle import fetch
from modelops_dask.environments.imports import list_packages
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.study.calls import check_call
from mops_helm.main import main
from study_helpers import mops_helm

MODEL = '''
import numpy as np
def spread(beta, gamma: float = 0.1, days=30, mode="fast", start=None, *, seed):
    """An epidemic."""
    return {"peak": beta / gamma * days + seed}
def _helper(): pass
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*args: str):
    return CliRunner().invoke(main, ["study", "new", *args])


def test_an_existing_script_becomes_a_study_that_runs(here):
    """As a new user types it: three commands, with what the second and third are taken from the output."""
    write_bundle(
        here,
        {
            "model.py": MODEL.replace("import numpy as np", ""),
            "data/cases.csv": "1,2",
            ".modelopsignore": "cache\n",
        },
    )
    first = mops_helm("study", "new", "--from", "model.py:spread", cwd=here)
    assert first.returncode == 0, first.stderr
    assert first.stdout.split() == ["study.yaml"]
    commands = [line.strip() for line in first.stderr.splitlines() if "mops-helm study" in line]
    assert len(commands) == 2
    done = [mops_helm(*shlex.split(line)[1:], cwd=here) for line in commands]
    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    assert (
        "Calls model.spread(beta, gamma=0.1, days=30, mode='fast', start=None, *, seed) of model.py:3"
        in done[0].stderr
    )
    assert "  ok                   20\n" in done[1].stdout


def test_nothing_is_overwritten(here):
    write_bundle(here, {"model.py": MODEL})
    assert new("--from", "model.py:spread").exit_code == 0
    texts = {path: path.read_bytes() for path in here.iterdir()}
    again = new("--from", "model.py:spread")
    assert again.stdout.split() == ["study-spread.yaml"]
    third = new("--from", "model.py:spread")
    assert third.exit_code == 2 and "already exist; nothing was written" in third.stderr
    assert {path: path.read_bytes() for path in texts} == texts


def test_what_is_written(here):
    write_bundle(here, {"model.py": MODEL})
    result = new("--from", "model.py:spread")
    study = spec.load(here / "study.yaml")
    assert (study.entrypoint, study.n_sets, study.replicates) == ("model.spread/baseline", 2, 10)
    assert study.fixed == {"gamma": 0.1, "days": 30, "mode": "fast"}
    assert study.sampling.names == {"beta"} and not study.warnings
    assert "EDIT" in (here / "study.yaml").read_text()
    assert tomllib.loads((here / "pyproject.toml").read_text())["project"]["dependencies"] == ["numpy"]
    assert "check the list" in result.stderr


def _draw_function(rng: random.Random) -> str:
    """A function with any parameters and defaults."""
    defaults = [
        "3",
        "-2",
        "1e-7",
        "2.5e30",
        "0.1",
        "'no'",
        "'1_000'",
        "None",
        "True",
        "[1, 2]",
        "{'a': 1}",
        "()",
        "max",
    ]
    annotations = ["", ": int", ": float", ": str", ": list[float]", ": 'Nowhere'"]
    required = [f"p{number}{rng.choice(annotations)}" for number in range(rng.randrange(4))]
    others = [
        f"q{number}{rng.choice(annotations)} = {rng.choice(defaults)}" for number in range(rng.randrange(5))
    ]
    own = rng.choice([[], ["seed"], ["rng=None"], ["seed=0", "scenario"], ["scenario='x'"]])
    words = [*required, *others, "*", *own] if own else [*required, *others]
    return f"def f({', '.join(words)}): return 1"


def test_whatever_the_signature_the_study_is_good_and_fits(tmp_path, monkeypatch):
    rng = random.Random(seed := random.randrange(2**32))
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        code = _draw_function(rng)
        write_bundle(folder, {"model.py": code})
        result = new("--from", "model.py:f")
        assert result.exit_code == 0, (seed, code, result.output)
        study = spec.load(folder / "study.yaml")
        assert not study.warnings, (seed, code, study.warnings)
        check_call(study, fetch(str(folder), tmp_path / "cache"), Settings())
        assert 1 <= study.n_tasks <= 40


REFUSED = {
    "no such file": ("nowhere.py:f", ": no such file"),
    "no such function": ("model.py:spred", "did you mean spread?"),
    "name the function": ("many.py", "it defines a, b"),
    "a class": ("many.py:C", "is a class"),
    "async": ("many.py:g", "is an async function"),
    "a decorator": ("many.py:h", "write a plain def that calls it"),
    "not a name": ("my-model.py:f", "rename it, to my_model perhaps"),
    "a module of Python": ("random.py:f", "standard library"),
    "a notebook": ("work.ipynb:f", "%%writefile model.py"),
    "bad syntax": ("broken.py:f", "cannot be read"),
}
FILES = {
    "model.py": MODEL,
    "many.py": "def a(): pass\ndef b(): pass\nclass C: pass\nasync def g(): pass\n@swap\ndef h(): pass",
    "my-model.py": "def f(): pass",
    "random.py": "def f(): pass",
    "broken.py": "def f(:",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_nothing_written(here, text, message):
    write_bundle(here, FILES)
    result = new("--from", text)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert {path.name for path in here.iterdir()} == set(FILES)


def test_the_home_folder_never_becomes_a_bundle(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    write_bundle(
        here,
        {"model.py": MODEL, ".ssh/id": "secret", "study.yaml": "model: model.spread\ngrid: {beta: [1]}\n"},
    )
    result = new("--from", "model.py:spread")
    assert result.exit_code == 2 and "to its own folder" in result.stderr
    planned = CliRunner().invoke(main, ["study", "plan", "study.yaml"])
    assert "would be the bundle, with all its contents" in planned.stderr
    assert "Calls" not in planned.stderr


def test_a_package_in_src_and_a_folder_by_name(here, tmp_path_factory, monkeypatch):
    write_bundle(
        here,
        {
            "src/pkg/__init__.py": "",
            "src/pkg/sim.py": "from .util import x\ndef f(a): return a",
            "src/pkg/util.py": "x = 1",
        },
    )
    assert new("--from", "src/pkg/sim.py:f").exit_code == 0
    assert spec.load(here / "study.yaml").entrypoint == "pkg.sim.f/baseline"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "is not in ." in new("--from", f"{here}/src/pkg/sim.py:f", ".").stderr
    result = new("--from", f"{here}/src/pkg/sim.py:f", str(here))
    assert result.stdout.split() == [f"{here}/study-f.yaml"]
    assert "mops-helm study run " + shlex.quote(f"{here}/study-f.yaml") in result.stderr


def test_new_in_a_folder_with_a_model_says_how_to_start_from_it(here):
    write_bundle(here, {"model.py": MODEL, "other.txt": ""})
    result = new(".")
    assert result.exit_code == 2 and "mops-helm study new --from model.py:spread\n" in result.stderr
    assert new("--from", "model.py:spread").exit_code == 0
    assert new().exit_code == 2


def test_where_something_declares_packages_it_stays(here):
    write_bundle(here, {"model.py": MODEL, "requirements.txt": "numpy"})
    assert new("--from", "model.py:spread").stdout.split() == ["study.yaml"]
    (here / "requirements.txt").unlink()
    (here / "study.yaml").unlink()
    write_bundle(here, {"pyproject.toml": "[tool.ruff]\n"})
    result = new("--from", "model.py:spread")
    assert result.stdout.split() == ["study.yaml"]
    assert "List the packages of model.py under [project] of pyproject.toml: numpy" in result.stderr


def test_code_that_runs_at_the_import_is_told(here):
    write_bundle(
        here, {"model.py": "def f(a): return a\nprint(f(1))\nif __name__ == '__main__':\n    f(2)\n"}
    )
    assert "model.py:2 calls f whenever the file is imported" in new("--from", "model.py:f").stderr


def test_packages_by_their_names(tmp_path):
    files = {
        "model.py": "import numpy.linalg, json\nfrom sklearn import svm\nimport local, pkg.sub\n"
        "from . import near\ndef f():\n    import yaml\nif TYPE_CHECKING:\n"
        "    import torch\nfrom google.protobuf import x\n",
        "local.py": "import cv2, model",
        "near.py": "import PIL.Image",
        "pkg/sub.py": "from ..local import x\nimport scipy",
    }
    write_bundle(tmp_path, files)
    names = ["numpy", "opencv-python-headless", "pillow", "protobuf", "pyyaml", "scikit-learn", "scipy"]
    assert list_packages(tmp_path / "model.py", tmp_path) == names
    assert list_packages(Path(tmp_path, "near.py"), tmp_path) == ["pillow"]


DEFAULTS = [
    "{0: 1.5, 1: 2.0}",
    "{'a': {1: 2}}",
    "{True: 1}",
    "[(1, 2)]",
    "{'a': (1,)}",
    "'😀 ü \\u2028 \\x7f\\x85 \\\\ud83d'",
    "'\\ud800'",
    "[1e-05, 1e300, -0.0]",
    "{'no': 'yes', '': [True, 1, 1.0, None]}",
    "[[], {}]",
    "1e400",
    "'a: b # c'",
]


@pytest.mark.parametrize("text", DEFAULTS)
def test_a_default_is_written_as_it_is_or_left_out(text, here):
    value = eval(text)
    write_bundle(here, {"model.py": f"def f(r0, q={text}, seed=0): return {{'q': str(q)}}"})
    result = new("--from", "model.py:f")
    assert result.exit_code == 0, result.stderr
    study = spec.load(here / "study.yaml")
    assert not study.warnings
    assert "q" not in study.fixed or repr(study.fixed["q"]) == repr(value)
    left_out = {*DEFAULTS[:5], "1e400", "'\\ud800'"}
    assert ("q" in study.fixed) == (text not in left_out)


@pytest.mark.parametrize("name", ["no", "yes", "on", "off", "null", "true", "No", "y", "n", "id"])
def test_a_parameter_may_have_any_name(name, here):
    write_bundle(here, {"model.py": f"def f({name}, {name}_2=1): return {{'x': {name}}}"})
    assert new("--from", "model.py:f").exit_code == 0
    study = spec.load(here / "study.yaml")
    assert study.sampling.names == {name} and study.fixed == {f"{name}_2": 1} and not study.warnings


def test_the_first_member_of_a_literal_is_an_example(here):
    write_bundle(here, {"model.py": "def f(mode: 'Literal[1]', a: typing.Literal['a', 'b']): return 1"})
    assert new("--from", "model.py:f").exit_code == 0
    assert '  a: ["a"]  # EDIT' in (here / "study.yaml").read_text()


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        ("class K:\n    def run(self, a): return a", "K.run", "is a method, which needs an object"),
        (
            "import argparse\ndef f(argv=None):\n    return argparse.ArgumentParser().parse_args(argv)",
            "f",
            "reads its parameters from the command line",
        ),
    ],
)
def test_what_a_study_cannot_call_gets_no_study(code, name, words, here):
    write_bundle(here, {"model.py": code})
    result = new("--from", f"model.py:{name}")
    assert result.exit_code == 2 and words in result.stderr
    assert not (here / "study.yaml").exists()


def test_a_seed_by_another_name_is_told_of(here):
    write_bundle(here, {"model.py": "def f(a, random_state=0): return a"})
    assert "random_state of f is not a parameter that gets the seed" in new("--from", "model.py:f").stderr
