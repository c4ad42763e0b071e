"""Bytecode in runners' copies: what makes starts quick must never be of a source that a task changed."""

import os
from pathlib import Path

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.executors import Task

KINDS = ("isolated_warm", "isolated_fork", "cold")
SCENARIOS = {"config.py": "R0 = 0\n", **{f"scenarios/s{n}.txt": f"R0 = {n}\n" for n in range(1, 6)}}
COPIES = """
import os, shutil, subprocess, sys
def wire(entrypoint, params, seed):
    if params["a"]:
        shutil.copy2(f"scenarios/s{params['a']}.txt", "config.py")
    if params["inside"]:
        import config
        return {"R0": str(config.R0)}
    words = [sys.executable, "-c", "import config; print(config.R0, end='')"]
    return {"R0": subprocess.run(words, capture_output=True, text=True, check=True).stdout}
"""


@pytest.fixture(autouse=True)
def writes_bytecode(monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


def values(executor, one, inside: bool, numbers) -> list[bytes]:
    outcomes = [executor.run(Task(one, "any", {"a": a, "inside": inside}, a)) for a in numbers]
    assert {outcome.status for outcome in outcomes} == {"ok"}, outcomes
    return [outcome.outputs["R0"] for outcome in outcomes]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_task_finds_bytecode_of_a_source_that_another_changed(tmp_path, kind, inside):
    """All sources have one size and one time: Python itself takes the bytecode of one for that of another."""
    source = write_bundle(tmp_path / "source", {"wire.py": COPIES, **SCENARIOS})
    for path in source.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    chosen = settings(tmp_path, executor_type=kind)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    for path in one.path.rglob("*.*"):  # as a copy that is made within a second
        os.utime(path, (1_700_000_000, 1_700_000_000))
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    if not (inside and kind == "isolated_warm"):  # which keeps its modules
        with executors.create(chosen) as executor:
            numbers = [1, 2, 3, 4, 5]
            assert values(executor, one, inside, numbers) == [b"%d" % a for a in numbers]
    else:
        with executors.create(chosen) as executor:
            values(executor, one, inside, [2])
    with executors.create(chosen) as executor:
        assert values(executor, one, inside, [0]) == [b"0"], "an earlier study's bytecode"


def test_fork_imports_no_module_ahead_whose_source_tasks_change(tmp_path):
    """The first task changes nothing, so the zygote imports the module for those after it."""
    source = write_bundle(tmp_path / "source", {"wire.py": COPIES, **SCENARIOS})
    chosen = settings(tmp_path, executor_type="isolated_fork")
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        assert values(executor, one, True, [0, 0, 3, 0, 4]) == [b"0", b"0", b"3", b"0", b"4"]


def test_a_later_runner_finds_the_bytecode_of_the_import_and_none_of_tasks(tmp_path):
    code = (
        "import os, sys, early\n"
        "def wire(entrypoint, params, seed):\n"
        "    found = sorted(os.listdir('__pycache__'))\n"
        "    import late\n"
        "    return {'found': ' '.join(found), 'at': late.__file__ + early.__file__}\n"
    )
    files = {"wire.py": code, "early.py": "X = 1\n", "late.py": "X = 1\n"}
    source = write_bundle(tmp_path / "source", files)
    chosen = settings(tmp_path, executor_type="cold")
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        outcomes = [executor.run(Task(one, "any", {}, seed)) for seed in range(3)]
        assert executor.file_changes(one).written_files == (), "bytecode is not what tasks write"
    assert all(b"late" not in outcome.outputs["found"] for outcome in outcomes)
    made = {path.name: path.read_bytes() for path in (one.path / "__pycache__").iterdir()}
    assert {name.partition(".")[0] for name in made} == {"wire", "early"}
    assert {data[4:8] for data in made.values()} == {b"\3\0\0\0"}, "the source's hash decides"
    with executors.create(chosen) as executor:
        outcome = executor.run(Task(one, "any", {}, 1))
    assert outcome.outputs["found"].split() == sorted(name.encode() for name in made)


def test_bytecode_is_not_shared_where_the_import_wrote_to_its_source(tmp_path):
    code = (
        "import os, pathlib\n"
        "path = pathlib.Path('config.py')\n"
        "before, found = path.read_text(), path.stat()\n"
        "path.write_text('R0 = 7\\n'); os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))\n"
        "import config\n"
        "path.write_text(before); os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))\n"
        "def wire(entrypoint, params, seed):\n"
        "    return {'R0': str(config.R0)}\n"
    )
    source = write_bundle(tmp_path / "source", {"wire.py": code, "config.py": "R0 = 0\n"})
    chosen = settings(tmp_path, executor_type="cold")
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        for seed in range(3):
            assert executor.run(Task(one, "any", {}, seed)).outputs == {"R0": b"7"}
    assert {path.name.partition(".")[0] for path in Path(one.path, "__pycache__").iterdir()} == {"wire"}
