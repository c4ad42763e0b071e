"""Names that programs of other versions use: imports that documents showed, modules that charts start.

tests/fixtures/v0.1.0/python holds the examples of the documents of 0.1.0, which run here as they were typed.
"""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fixture_helpers import REPOSITORY, V010
from study_helpers import environ

EXAMPLES = sorted((V010 / "python").glob("*.py"))
SIR = REPOSITORY / "examples" / "sir"
STUDY = """\
name: sir-grid
entrypoint: models.sir.simulate/baseline
grid: {r0: [0.8, 2.0], infectious_days: [2]}
replicates: 4
"""


def python(text: str, cwd: Path) -> str:
    (cwd / "typed.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "typed.py"], cwd=cwd, env=environ(cwd), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(SIR, tmp_path / "examples" / "sir", ignore=shutil.ignore_patterns("out", "__pycache__"))
    shutil.copytree(SIR, tmp_path / "my-model", ignore=shutil.ignore_patterns("out", "__pycache__"))
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def example(name: str) -> str:
    return (V010 / "python" / f"{name}.py").read_text()


def test_a_study_from_python_and_its_tables(folder):
    printed = python(example("study").replace("replicates=10", "replicates=2"), folder)
    assert "'ok': 20" in printed and "pyarrow.Table" in printed
    (folder / "out" / "sir").rename(folder / "out" / "sir-grid")
    assert "infections_mean" in python(example("results"), folder)


def test_a_diagnosis_from_python(folder):
    text = example("diagnose")
    assert "budget_seconds=300" in text
    printed = python(text.replace("budget_seconds=300", "budget_seconds=20"), folder)
    assert printed.split()[0] in ("healthy", "inconclusive") and len(printed.split()) == 3


def test_what_is_in_effect_in_each_worker(folder):
    cluster = (
        "from modelops_dask.diagnose import workers\n"
        "from modelops_dask.settings import Settings\n"
        "from modelops_dask.shape import Shape\n"
        "def main():\n"
        "    shape = Shape(replicas=1, processes=1, threads=1, pod_memory_bytes=1 << 30)\n"
        "    with workers(shape, Settings()) as client:\n"
    )
    lines = example("runtime").replace("client.run(runtime)", "print(client.run(runtime))").splitlines()
    body = "".join(f"        {line}\n" for line in lines)
    printed = python(f"{cluster}{body}\nif __name__ == '__main__':\n    main()\n", folder)
    assert "'executor': 'none'" in printed and "'threads': 1" in printed


def test_each_example_is_run_by_a_test_above():
    source = Path(__file__).read_text()
    called = {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "example"
        if isinstance(node.args[0], ast.Constant)
    }
    assert called == {path.stem for path in EXAMPLES} != set()


@pytest.mark.parametrize("module", ["init", "check", "ask", "driver", "drain"])
def test_modules_that_charts_start_do_their_work_by_that_name(module):
    """Without arguments each ends with a complaint of the program that it leads to, not in silence."""
    done = subprocess.run(
        [sys.executable, "-m", f"modelops_dask.{module}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0 and done.stderr, done


def test_the_preload_has_what_dask_calls():
    from modelops_dask import worker
    from modelops_dask.workers import runtime

    assert worker.dask_setup is runtime.dask_setup and worker.runtime is runtime.runtime
