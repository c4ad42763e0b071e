"""What the start of a runner costs: every cold task pays for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from executor_helpers import settings, task, write_bundle
from modelops_dask import executors
from modelops_dask.executors import process

LOADED = """
import sys

LOADED = sorted(sys.modules)

def wire(entrypoint, params, seed):
    return {"loaded": " ".join(LOADED)}
"""
DEAR = {"json", "pickle", "re", "socket", "typing", "copy", "subprocess", "pathlib", "traceback"}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python load other modules")
@pytest.mark.parametrize("kind", ["isolated_warm", "cold"])
def test_a_runner_loads_no_module_that_a_model_may_not_need(tmp_path, kind):
    bundle = write_bundle(tmp_path / "bundle", {"wire.py": LOADED})
    chosen = settings(tmp_path, executor_type=kind, executor_environment="image")
    with executors.create(chosen) as executor:
        outcome = executor.run(task(bundle, chosen))
    loaded = set(outcome.outputs["loaded"].decode().split())
    before = subprocess.run(  # what site loads here, for an editable installation or by a .pth file
        [sys.executable, "-s", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True
    )
    assert "wire" in loaded
    assert not DEAR & (loaded - set(before.stdout.split()))


def test_a_script_is_run_from_its_bytecode(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import json, sys\nprint(json.dumps([__name__, __file__, sys.argv]))\n")
    command = [sys.executable, str(process.START), str(script), "a", "b"]

    def run() -> list:
        return json.loads(subprocess.run(command, capture_output=True, check=True, env={}).stdout)

    assert run() == ["__main__", str(script), [str(script), "a", "b"]]
    (bytecode,) = Path(tmp_path, "__pycache__").iterdir()
    written = bytecode.stat().st_mtime_ns
    assert run() == ["__main__", str(script), [str(script), "a", "b"]]
    assert bytecode.stat().st_mtime_ns == written
    script.write_text("print('[3]')\n")
    assert run() == [3], "a changed script is compiled again"
