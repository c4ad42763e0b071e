"""Diagnosis of studies whose tasks run a program: probes, and the script that shows a polluter."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from executor_helpers import settings
from modelops_dask import bundle as bundles
from modelops_dask.diagnose.causes import script
from modelops_dask.diagnose.trials import probe
from modelops_dask.plan import spec

COUNTING = """#!/bin/sh
n=$(cat count 2> /dev/null || echo 0)
echo $((n + 1)) > count
cat "$2" > seen.txt
echo "$1 $n $3" > out/n.txt
echo printed
"""
HEALTHY = "#!/bin/sh\necho $1 $3 > out/n.txt\ncat $2 > seen.txt\n"


def write(folder, model):
    """A bundle with a program, and the study's spec."""
    source = folder / "bundle"
    source.mkdir()
    (source / "model").write_text(model)
    (source / "model").chmod(0o755)
    content = {
        "command": ["./model", "{x}", "{parameters_file}", "{{{seed}}}", "{threads}"],
        "environment": {"X": "{x}"},
        "parameters_file": "in/p.json",
        "outputs": {"n": "out/n.txt", "seen": "seen.txt", "said": "-"},
        "sets": [{"x": "it's", "more": [1, None, True]}],
    }
    return source, spec.from_content(content, source)


def calls_of(study, seeds):
    return [(study.entrypoint, {"x": "it's", "more": [1, None, True]}, seed) for seed in seeds]


def test_a_probe_runs_programs_one_after_another(tmp_path):
    source, study = write(tmp_path, COUNTING)
    chosen = settings(tmp_path, executor_environment="image")
    model = replace(bundles.fetch(str(source), chosen.bundles_cache_dir), program=study.program)
    result = probe.run(model, chosen, calls_of(study, [7, 8]), timeout_seconds=120)
    assert result.reason == "", result.error
    assert [answer.outputs["n"] for answer in result.answers] == [b"it's 0 {7}\n", b"it's 1 {8}\n"]
    assert [answer.outputs["said"] for answer in result.answers] == [b"printed\n"] * 2
    assert json.loads(result.answers[0].outputs["seen"])["more"] == [1, None, True]


@pytest.mark.parametrize(("model", "status"), [(COUNTING, 1), (HEALTHY, 0)], ids=["counting", "healthy"])
def test_the_script_of_a_polluter_runs_the_program(model, status, tmp_path):
    source, study = write(tmp_path, model)
    (first, second) = calls_of(study, [7, 8])
    path = tmp_path / "reproduce.py"
    path.write_text(script.render_script(source, study.program, [first], second))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", path], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "{8}" in done.stdout and ("differ" in done.stdout) == (status == 1)
