"""Tables of results/ that no manifest names any more, or that somebody took away."""

import json
from datetime import timedelta

import pyarrow as pa
import pytest

from modelops_dask.store import parts
from modelops_dask.store.compact import compact, read_manifest
from modelops_dask.store.files import Store
from modelops_dask.store.results import output, results
from modelops_dask.store.verify import verify
from store_helpers import attempt, begin, ipc_stream, table_path, tree
from store_servers import Fault, Proxy, reached


@pytest.fixture
def plan(files, tmp_path):
    """A study that is done."""
    plan = begin(files, tmp_path)
    parts.write(
        files,
        [
            attempt(plan, t.set, t.replicate, outputs={"t": ipc_stream(pa.table({"x": [t.seed]}))})
            for t in plan.tasks([(0, plan.absent.size)])
        ],
    )
    return plan


def one_more(files, plan):
    """Something happens, so that the tables are old."""
    parts.write(files, [attempt(plan, 0, 0, "failed")])


def unstamped(files):
    """results/ as 0.1.0 wrote it: tables beside the manifest, which says neither stamp nor sizes."""
    manifest = json.loads(files.read("results/manifest.json"))
    stamp = manifest.pop("stamp", "")
    for key in ("sizes", "replaced"):
        manifest.pop(key, None)
    for name in manifest["files"]:
        data = files.read(f"results/{name}")
        files.remove(f"results/{name}")
        files.put(f"results/{name.removeprefix(stamp).lstrip('/')}", data)
    manifest["files"] = [name.removeprefix(stamp).lstrip("/") for name in manifest["files"]]
    files.put("results/manifest.json", json.dumps(manifest).encode())


def test_results_of_an_earlier_version_are_read_as_they_are(files, plan):
    compact(files, plan)
    unstamped(files)
    before = tree(files)
    assert results(files, "t").num_rows == 12 and verify(files.location()).findings == []
    assert output(files, "t").where == files.location("results/model_outputs/t.parquet")
    assert tree(files) == before, "nothing was built"
    for _ in range(2):
        one_more(files, plan)
        assert results(files, "t").num_rows == 12
    assert verify(files.location()).findings == []
    if not files.folder:
        assert not files.list("results/model_outputs"), "removed when nobody can be at them any more"


def test_a_reader_of_the_tables_before_is_not_cut_off(files, plan):
    compact(files, plan)
    reader = output(files, "t")
    one_more(files, plan)
    compact(files, plan)
    assert reader.table().num_rows == 12


def test_tables_that_are_gone_or_of_another_size_are_built_again(files, plan):
    for spoil in (
        lambda name: files.remove(name),
        lambda name: files.put(name, b""),
        lambda name: files.put(name, files.read(name)[:-1]),
    ):
        compact(files, plan)
        spoil(table_path(files, "model_outputs/t.parquet"))
        assert results(files, "t").num_rows == 12
    assert verify(files.location()).findings == []


@pytest.mark.parametrize("files", ["memory"], indirect=True)
def test_tables_of_a_run_that_was_killed_are_removed_after_a_day_of_the_stores_clock(files, plan):
    orphan, young = "20200101T000000Z-0123abcd", "20991231T000000Z-0123abcd"  # names say nothing of their age
    for stamp in (orphan, young):
        files.put(f"results/{stamp}/model_outputs/t.parquet", b"half")
    files.put("results/notes.txt", b"of a person")
    filesystem, root = files._remote
    file = filesystem.store[f"{root}/results/{orphan}/model_outputs/t.parquet"]
    file.modified -= timedelta(days=2)
    compact(files, plan)
    there = {name.partition("/")[0] for name in files.list_below("results")}
    assert there == {"manifest.json", "notes.txt", young, read_manifest(files)["stamp"]}
    assert verify(files.location()).findings == []


def test_a_store_that_forbids_to_delete_keeps_all_tables(s3_server, monkeypatch, tmp_path):
    forbidden = Fault(applied=False, answer=(403, "AccessDenied"))
    with (
        Proxy(s3_server, lambda request: forbidden if request.method == "DELETE" else None) as proxy,
        reached(proxy.address, monkeypatch) as url,
    ):
        files = Store(url)
        plan = begin(files, tmp_path)
        for _ in range(4):
            one_more(files, plan)
            compact(files, plan)
        assert proxy.requests["DELETE"] == 2
        assert len({name.partition("/")[0] for name in files.list_below("results")}) == 5
        assert verify(url).findings[-1].code == "UNFINISHED"
