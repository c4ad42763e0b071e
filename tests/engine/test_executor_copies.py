"""Runners' own copies of a bundle: whatever tasks do to files, the next one finds them as they were."""

import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from executor_helpers import settings
from helpers import wait_for
from modelops_dask import bundle, executors
from modelops_dask.errors import BadInput
from modelops_dask.executors import Task, copies, workspace
from modelops_dask.scratch import TEMPORARY

MEDDLER = Path(__file__).parents[1] / "bundles" / "meddler" / "wire.py"
SEED = int(os.environ.get("COPIES_SEED", 0)) or random.randrange(1 << 32)
KINDS = ("isolated_warm", "isolated_fork", "cold")
LARGE = (1 << 20) + 1
FRESH = """
import json, sys
sys.path.insert(0, ".")
import wire
print(json.dumps(wire.wire("", json.loads(sys.argv[1]), 0)))
"""


def random_bundle(chance: random.Random, folder: Path) -> Path:
    """Files, folders, links within, and a large file."""
    folders = [Path(), Path("data"), Path("data/deep"), Path("src/model"), Path("out.d")]
    folder.mkdir(parents=True)
    shutil.copy(MEDDLER, folder / "wire.py")
    for number in range(chance.randint(4, 12)):
        parent = folder / chance.choice(folders)
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"f{number}.{chance.choice(['csv', 'txt', 'py'])}").write_bytes(
            chance.randbytes(chance.choice([0, 1, 100, 5000]))
        )
    names = [path for path in folder.rglob("*") if path.is_file()]
    for number in range(chance.randint(0, 3)):
        target = chance.choice(names)
        link = folder / f"l{number}"
        link.symlink_to(os.path.relpath(target, folder))
    (folder / "large.bin").write_bytes(chance.randbytes(LARGE))
    if chance.random() < 0.5:
        chance.choice(names).chmod(0o755)
    return folder


def random_actions(chance: random.Random, folder: Path) -> list[list]:
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    names = [name for name in names if name not in ("wire.py", "large.bin")]
    new = ["new.txt", "data/new.csv", "made/by/hand", "last_run.csv"]

    def action() -> list:
        name, other = chance.choice(names + new), chance.choice(names + new)
        return chance.choice(
            [
                ["write", name, "new words"],
                ["append", name, "more"],
                ["rewrite", name],
                ["replace", name, "others"],
                ["truncate", name],
                ["rename", name, other],
                ["remove", name],
                ["mode", name, chance.choice([0o600, 0o444, 0o755, 0o000])],
                ["times", name],
                ["link", other, name],
                ["hard link", name, other],
                ["folder", name],
                ["pipe", name],
                ["by link", name, chance.choice(["..", "wire.py", "nowhere"])],
                ["by file", name],
                ["chdir", chance.choice(["data", "data/deep", "made/by/hand"])],
                ["temporary", chance.choice(["a", "b"])],
                ["replace", "large.bin", "small now"],
                ["remove", "large.bin"],
            ]
        )

    return [*(action() for _ in range(chance.randint(1, 6))), *([["all"]] if chance.random() < 0.1 else [])]


def fresh(source: Path, folder: Path, params: dict) -> dict[str, str]:
    """What a new process comes to, in a copy that nobody used: nothing of the engine is in this."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder / "b", symlinks=True)
    (folder / "t").mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-c", FRESH, json.dumps(params)],
        cwd=folder / "b",
        env=os.environ | {"TMPDIR": str(folder / "t")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_the_model_of_these_tests_leaves_other_folders_alone(tmp_path):
    """Its actions are random, and whoever runs the tests may be root."""
    (tmp_path / "precious").write_text("here")
    source = random_bundle(random.Random(1), tmp_path / "source")
    up, outside = ["link", "..", "up"], str(tmp_path / "precious")
    for path in (outside, "../../precious", "up/../precious", "/", "..", "up"):
        actions = [["remove", path], ["mode", path, 0], ["write", path, ""], ["rename", path, "x"]]
        fresh(source, tmp_path / "fresh", {"do": [up, ["chdir", path], *actions, ["by file", path], ["all"]]})
        assert (tmp_path / "precious").read_text() == "here", path
        assert (tmp_path / "fresh" / "t").is_dir(), path


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_find_files_as_a_new_process_does_whatever_others_did(tmp_path, kind):
    print("seed", SEED)
    chance = random.Random(SEED)
    for number in range(2):
        source = random_bundle(chance, tmp_path / f"source{number}")
        chosen = settings(tmp_path, executor_type=kind)
        one = bundle.fetch(str(source), chosen.bundles_cache_dir)
        with executors.create(chosen) as executor:
            for _ in range(6):
                params = {"do": random_actions(chance, source), "seconds": 0.02}
                outcome = executor.run(Task(one, "any", params, 0))
                assert outcome.status == "ok", outcome
                found = {name: data.decode() for name, data in outcome.outputs.items()}
                assert found == fresh(one.path, tmp_path / "fresh", params), params["do"]
            assert executor.file_changes(one).shared_files == ()
        assert bundle.digest(one.path) == one.digest, "the checked copy was written to"


def only(folder: Path, code: str, **files: bytes) -> Path:
    """A bundle of one module, and files beside it."""
    folder.mkdir(parents=True)
    (folder / "wire.py").write_text(code)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def taken() -> set[str]:
    """Slots that somebody has."""
    root = TEMPORARY / f"modelops-{os.getuid()}"
    return {path.name for path in root.iterdir() if path.name.isdigit()}


MEETS = """
import pathlib, time
def wire(entrypoint, params, seed):
    mine = pathlib.Path("who.txt")
    mine.write_text(str(seed))
    pathlib.Path(__file__).with_name("other.txt").write_text(str(seed))
    (pathlib.Path(params["meeting"]) / str(seed)).touch()
    deadline = time.monotonic() + 30
    while len(list(pathlib.Path(params["meeting"]).iterdir())) < params["n"] and time.monotonic() < deadline:
        time.sleep(0.01)
    return {"who": mine.read_text() + pathlib.Path("other.txt").read_text(), "where": __file__}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_that_run_side_by_side_have_files_of_their_own(tmp_path, kind):
    source, meeting = only(tmp_path / "source", MEETS, **{"who.txt": b"nobody"}), tmp_path / "meeting"
    meeting.mkdir()
    chosen = settings(tmp_path, executor_type=kind)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with ExitStack() as stack:
        # Two worker processes of a pod: what they agree on lies in the file system alone.
        both = [stack.enter_context(executors.create(chosen)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(4))
        tasks = [Task(one, "any", {"meeting": str(meeting), "n": 4}, seed) for seed in range(4)]
        outcomes = list(pool.map(lambda task: both[task.seed % 2].run(task), tasks))
    assert [outcome.outputs["who"] for outcome in outcomes] == [b"00", b"11", b"22", b"33"]
    places = {outcome.outputs["where"] for outcome in outcomes}
    assert len(places) == 4 and max(map(len, places)) < 60, places


WRITES = """
import pathlib
def wire(entrypoint, params, seed):
    before = pathlib.Path("large.bin").read_bytes()[:4]
    with open("large.bin", "r+b") as file:
        file.write(b"XXXX")
    return {"before": before}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_to_a_link_is_named_and_later_copies_have_no_links(tmp_path, kind):
    source = only(tmp_path / "source", WRITES, **{"large.bin": b"0123" * (LARGE // 4 + 1)})
    chosen = settings(tmp_path, executor_type=kind)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        assert executor.run(Task(one, "any", {}, 1)).status == "ok"
        shared = executor.file_changes(one).shared_files
        if workspace.copy(str(source / "wire.py"), str(tmp_path / "clone")):
            assert shared == (), "this file system shares blocks, so there are no links"
        else:
            assert shared == ("large.bin",)
        again = bundle.fetch(str(source), chosen.bundles_cache_dir)
        for _ in range(3):
            assert executor.run(Task(again, "any", {}, 1)).outputs == {"before": b"0123"}
        assert executor.file_changes(again) == (("large.bin",), ())
    assert bundle.digest(again.path) == again.digest


UNSEEN = """
import os
def wire(entrypoint, params, seed):
    found = os.stat("large.bin")
    with open("large.bin", "r+b") as file:
        before = file.read(4)
        if params["writes"]:
            file.seek(0)
            file.write(b"XXXX")
    if params["writes"]:
        os.utime("large.bin", ns=(found.st_atime_ns, found.st_mtime_ns))
    return {"before": before}
"""


def hard_link(source: Path, target: Path) -> bool:
    target.hardlink_to(source)
    return False


def symbolic_link(source: Path, target: Path) -> bool:
    target.symlink_to(source)
    return True


@pytest.mark.parametrize("link", [hard_link, symbolic_link])
@pytest.mark.parametrize("kind", KINDS)
def test_a_write_that_keeps_size_and_time_is_named(tmp_path, kind, link, monkeypatch):
    monkeypatch.setattr(copies, "_link", link)
    source = only(tmp_path / "source", UNSEEN, **{"large.bin": b"0123" * (LARGE // 4 + 1)})
    chosen = settings(tmp_path, executor_type=kind)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        for _ in range(2):  # other links to it, made and removed, are no writes
            assert executor.run(Task(one, "any", {"writes": False}, 1)).outputs == {"before": b"0123"}
            (tmp_path / "other").hardlink_to(one.path / "large.bin")
            assert executor.file_changes(one) == ((), ())
            (tmp_path / "other").unlink()
        assert executor.run(Task(one, "any", {"writes": True}, 1)).status == "ok"
        assert executor.file_changes(one).shared_files == ("large.bin",)
        again = bundle.fetch(str(source), chosen.bundles_cache_dir)
        assert executor.run(Task(again, "any", {"writes": True}, 1)).outputs == {"before": b"0123"}
        assert executor.file_changes(again).shared_files == ()
    assert bundle.digest(again.path) == again.digest


BESIDE = """
from pathlib import Path
DATA = Path("data/large.bin").resolve().parent
def wire(entrypoint, params, seed):
    cache = DATA / params["name"]
    found = cache.exists()
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("made by a task")
    if params["removes"]:
        cache.unlink()
    return {"found": str(found)}
"""


@pytest.mark.parametrize(
    ("name", "removes", "shared"),
    [
        ("cache.txt", False, "data/cache.txt"),
        ("new/cache.txt", False, "data/new"),
        ("cache.txt", True, "data"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_file_beside_the_real_path_of_a_large_one_is_named_and_removed(
    tmp_path, kind, name, removes, shared, monkeypatch
):
    """A symbolic link, where the cache is on another file system, leads to the folder that all share."""
    monkeypatch.setattr(copies, "_link", symbolic_link)
    source = only(tmp_path / "source", BESIDE)
    (source / "data").mkdir()
    (source / "data" / "large.bin").write_bytes(b"0123" * (LARGE // 4 + 1))
    chosen = settings(tmp_path, executor_type=kind)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    (one.path / "data" / "cache.txt").write_text("of an earlier version")
    params = {"name": name, "removes": removes}
    with executors.create(chosen) as executor:
        assert executor.run(Task(one, "any", params, 1)).outputs == {"found": b"False"}
        assert executor.file_changes(one).shared_files == (shared,)
        assert executor.file_changes(one).shared_files == (shared,), "to another batch that began before"
        assert {path.name for path in (one.path / "data").iterdir()} == {"large.bin"}
        again = bundle.fetch(str(source), chosen.bundles_cache_dir)
        for _ in range(3):
            assert executor.run(Task(again, "any", params, 1)).outputs == {"found": b"False"}
        assert executor.file_changes(again).shared_files == ()


@pytest.mark.parametrize("whole", [False, True])
def test_copies_keep_to_their_share_of_scratch(tmp_path, whole):
    """Links where there is no room; an error with the value to raise where tasks write to them."""
    source = only(tmp_path / "source", WRITES, **{"large.bin": b"0123" * 200_000})
    chosen = settings(tmp_path, scratch_bytes=4000)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        assert executor.run(Task(one, "any", {}, 1)).status == "ok"
        assert executor.file_changes(one).shared_files == ("large.bin",)
        if whole:
            again = bundle.fetch(str(source), chosen.bundles_cache_dir)
            with pytest.raises(BadInput, match=r"0\.8 MiB, .* Raise workers\.scratch\.sizeLimit"):
                executor.run(Task(again, "any", {}, 1))


def test_what_a_killed_worker_process_leaves_is_removed_by_the_next(tmp_path):
    source = only(tmp_path / "source", WRITES, **{"large.bin": b"0123"})
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from executor_helpers import settings; from modelops_dask import bundle, executors\n"
        "chosen = settings(Path(sys.argv[2]))\n"
        "one = bundle.fetch(sys.argv[3], chosen.bundles_cache_dir)\n"
        "executors.create(chosen).run(executors.Task(one, 'any', {}, 1)); print('ran', flush=True)\n"
        "time.sleep(600)\n"
    )
    before = taken()
    words = [sys.executable, "-c", script, str(Path(__file__).parents[1]), str(tmp_path), str(source)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ran\n"
        (left,) = taken() - before
        process.kill()
    chosen = settings(tmp_path)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)

    def is_swept() -> bool:  # its runner, which holds the lock too, ends a moment after it
        with executors.create(chosen) as executor:
            executor.run(Task(one, "any", {}, 1))
        return left not in taken()

    wait_for(is_swept, "removal of what the killed process left")


def test_without_private_files_tasks_find_those_of_others(tmp_path):
    source = only(tmp_path / "source", MEETS, **{"who.txt": b"nobody"})
    (tmp_path / "meeting").mkdir()
    chosen = settings(tmp_path, private_files=False)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        outcome = executor.run(Task(one, "any", {"meeting": str(tmp_path / "meeting"), "n": 1}, 7))
        assert outcome.outputs["where"].decode() == str(one.path / "wire.py")
        assert executor.file_changes(one) == ((), ())
    assert (one.path / "who.txt").read_text() == "7"


@pytest.mark.parametrize("kind", KINDS)
def test_what_importing_the_model_writes_is_the_beginning(tmp_path, kind):
    code = (
        "from pathlib import Path\n"
        "Path('table.csv').write_text('made at import')\n"
        "def wire(entrypoint, params, seed):\n"
        "    found = Path('table.csv').read_text()\n"
        "    Path('table.csv').write_text(str(seed)); Path('new').mkdir(); Path('new/x').touch()\n"
        "    Path('wire.py').unlink()\n"
        "    return {'found': found}\n"
    )
    chosen = settings(tmp_path, executor_type=kind)
    one = bundle.fetch(str(only(tmp_path / "source", code)), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        for seed in range(4):
            assert executor.run(Task(one, "any", {}, seed)).outputs == {"found": b"made at import"}
        written = executor.file_changes(one).written_files
    assert set(written) == {"table.csv", "new", "wire.py"}


def test_a_child_works_in_a_folder_that_the_task_before_it_removed(tmp_path):
    code = (
        "import os, shutil\n"
        "def wire(entrypoint, params, seed):\n"
        "    here = os.getcwd()\n"
        "    shutil.rmtree(here)\n"
        "    return {'here': here}\n"
    )
    chosen = settings(tmp_path, executor_type="isolated_fork")
    one = bundle.fetch(str(only(tmp_path / "source", code)), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        outcomes = [executor.run(Task(one, "any", {}, seed)) for seed in range(5)]
    assert {outcome.status for outcome in outcomes} == {"ok"}, outcomes
    assert len({outcome.outputs["here"] for outcome in outcomes}) == 1
