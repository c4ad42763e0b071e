"""Merging parts: the same rows for every reader, whatever is cut short, whoever does it at the same time."""

import random
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import wait_for
from modelops_dask.store import parts
from modelops_dask.store.compact import compact
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.merge import merge
from modelops_dask.store.results import outputs, results
from store_helpers import attempt, begin, mark, read_parquet, tree

SMALL = 40_000  # bytes of a merged file, so that several come about


def fill(files, folder, n_parts=30, seed=0):
    """A study with attempts of every kind in many parts; fewer where each read is a request."""
    n_parts = min(n_parts, 8) if files.url.startswith("s3") else n_parts
    plan = begin(files, folder, sets=f"[{', '.join(f'{{a: {i}}}' for i in range(8))}]", replicates=6)
    rng = random.Random(seed)
    for _ in range(n_parts):
        rows = []
        for _ in range(rng.randint(1, 4)):
            status = rng.choice(["ok", "ok", "failed", "died", "poisoned"])
            outputs_ = {"x": rng.randbytes(3000), "n": rng.choice([b"1", b"2"])}
            more = {"reason": "R"} if status != "ok" else {"outputs": outputs_}
            rows.append(
                attempt(plan, rng.randrange(8), rng.randrange(6), status, seconds=rng.random(), **more)
            )
        parts.write(files, rows)
    return plan


def facts(files, plan):
    """All that a reader can see."""
    state = fold(files, plan, 2)
    compact(files, plan, 2)
    tables = {name: results(files, name) for name in outputs(files)}
    return (
        state.codes.tolist(),
        state.attempts.tolist(),
        state.failures,
        state.conflicts,
        state.conditions,
        tables,
    )


def rows_on_record(files):
    """How many rows lie in parts/, those that are there twice included."""
    return sum(read_parquet(files, f"parts/{name}").num_rows for name in files.list("parts"))


def test_merging_changes_nothing_that_is_read(files, tmp_path):
    plan = fill(files, tmp_path)
    before, rows = facts(files, plan), rows_on_record(files)
    n_parts = len(files.list("parts"))
    assert merge(files, max_files=n_parts) == 0, "no more files than that"
    assert merge(files, max_files=n_parts - 1, target_bytes=SMALL) == n_parts
    assert 1 <= len(files.list("parts")) < n_parts and rows_on_record(files) == rows
    assert facts(files, plan) == before
    merge(files, max_files=0)
    assert len(files.list("parts")) == 1, "merged files are merged too"
    assert facts(files, plan) == before
    assert merge(files, max_files=0) == 0 and facts(files, plan) == before


def test_what_is_left_over_counts_once_and_goes_next_time(files, tmp_path):
    plan = fill(files, tmp_path)
    before = facts(files, plan)
    loose = {name: files.read(f"parts/{name}") for name in files.list("parts")}
    merge(files, max_files=0, target_bytes=SMALL)
    (again, *_) = loose
    for name, data in loose.items():  # as after a crash between writing and removing
        files.put(f"parts/{name}", data)
    assert facts(files, plan) == before
    assert parts.find(files, again.removesuffix(".parquet")).num_rows > 0
    merge(files, max_files=0, target_bytes=SMALL)
    assert not set(files.list("parts")) & loose.keys()
    assert facts(files, plan) == before


def test_torn_and_foreign_files_are_left_alone(files, tmp_path):
    plan = fill(files, tmp_path)
    bad = {"torn.parquet": files.read(f"parts/{files.list('parts')[0]}")[:-20], "notes.txt": b"mine"}
    for name, data in bad.items():
        files.put(f"parts/{name}", data)
    before = facts(files, plan)
    merge(files, max_files=0)
    assert {name: files.read(f"parts/{name}") for name in bad} == bad
    assert fold(files, plan).skipped.keys() == bad.keys() and facts(files, plan) == before


def test_a_part_is_found_wherever_it_is(files, tmp_path):
    plan = fill(files, tmp_path)
    name = parts.write(files, [attempt(plan, 7, 5), attempt(plan, 7, 4, "failed", reason="F")])
    part = name.removeprefix("parts/").removesuffix(".parquet")
    before = parts.find(files, part)
    merge(files, max_files=0)
    assert parts.find(files, part).to_pylist() == before.to_pylist()
    assert before["reason"].to_pylist() == ["", "F"]
    assert parts.find(files, "0" * 32) is None


def test_a_torn_merged_file_costs_no_more_than_is_in_it(files, tmp_path, monkeypatch):
    plan = fill(files, tmp_path)
    before = facts(files, plan)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", lambda *_: None)  # the merge was cut short
        merge(files, max_files=0)
    merged = next(name for name in files.list("parts") if name.startswith(parts.MERGED))
    files.put(f"parts/{merged}", files.read(f"parts/{merged}")[:-20])
    assert parts.find(files, "0" * 32) is None, "a worker's death asks for its part"
    merge(files, max_files=0)
    assert facts(files, plan) == before and not fold(files, plan).skipped


def test_the_first_of_two_parts_of_one_name_stands(files, tmp_path):
    """Dask may run a batch again after its part was merged."""
    plan = begin(files, tmp_path)
    rows = [attempt(plan, 0, 0)]
    files.create("parts/again.parquet", parts.encode(rows, mark(files)))
    merge(files, max_files=0)
    late = parts.encode([rows[0]._replace(status="failed", outputs={})], mark(files))
    files.create("parts/again.parquet", late)
    assert fold(files, plan).counts()["ok"] == 1 and fold(files, plan).attempts[0, 0] == 1


def test_merges_and_readers_at_once(files, tmp_path):
    plan = fill(files, tmp_path)
    before, rows = facts(files, plan)[:4], rows_on_record(files)

    def read(_):
        state = fold(files, plan, 2)
        return state.codes.tolist(), state.attempts.tolist(), state.failures, state.conflicts

    with ThreadPoolExecutor(6) as threads:
        merging = [threads.submit(merge, files, 0, size) for size in (SMALL, SMALL, SMALL // 2)]
        assert list(threads.map(read, range(6))) == [before] * 6
        assert all(future.result() >= 0 for future in merging)
    assert facts(files, plan)[:4] == before
    merge(files, max_files=0)
    assert rows_on_record(files) == rows


SCRIPT = textwrap.dedent("""
    import sys
    from modelops_dask.store.files import Files
    from modelops_dask.store.merge import merge
    print("ready", flush=True)
    merge(Files(sys.argv[1]), over=0, target_bytes=int(sys.argv[2]))
""")


@pytest.mark.parametrize("files", ["folder"], indirect=True)
@pytest.mark.parametrize("turn", range(4))
def test_kill_9_while_merging(files, tmp_path, turn):  # noqa: ARG001 (to do it several times)
    """Killed after a random number of changes to parts/, again and again, until a merge reaches its end."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    plan = fill(files, tmp_path, n_parts=60, seed=seed)
    before, rows = facts(files, plan), rows_on_record(files)
    kills = 0
    while True:
        names, changes = set(files.list("parts")), rng.randint(1, 50)
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, files.url, str(SMALL)], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()

        def changed(known=names, wanted=changes, process=process):
            return len(known ^ set(files.list("parts"))) >= wanted or process.poll() is not None

        wait_for(changed, "change", 60)
        process.kill()
        ended = process.wait(60) == 0
        process.stdout.close()
        kills += not ended
        assert facts(files, plan) == before, f"after {kills} kills"
        if ended or kills == 3:
            break
    merge(files, max_files=0, target_bytes=SMALL)
    assert facts(files, plan) == before and rows_on_record(files) == rows
    merge(files, max_files=0)
    assert rows_on_record(files) == rows
    names = [name for name in tree(files) if name.startswith("parts/")]
    assert [name for name in names if not name.startswith("parts/merged-")] == [
        name for name in tree(files) if "/." in name
    ], "nothing but temporary files of those that were killed"
