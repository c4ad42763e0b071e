"""Files of outputs: whatever a model calls them, each has a file of its own that any file system can keep."""

import json
import random
import unicodedata

import pytest

from modelops_dask.store import parts
from modelops_dask.store.compact import compact
from modelops_dask.store.files import Store
from modelops_dask.store.output_files import MOST_BYTES, choose_stems, output_name
from modelops_dask.store.results import outputs, results
from modelops_dask.store.verify import verify
from store_helpers import attempt, begin, table_path

HOSTILE = [
    "",
    ".",
    "..",
    ".hidden",
    "../../up",
    "/root",
    "a/b",
    "a\\b",
    "a\0b",
    "new\nline",
    "\x1b[31mred",
    "con",
    "CON",
    "nul.txt",
    "Lpt1",
    "com10",
    "Cases",
    "cases",
    "CASES",
    "straße",
    "STRASSE",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "\N{KELVIN SIGN}",
    "K",
    "k",
    "አዲስ ኢንፌክሽኖች በወረዳ እና በእድሜ ክልል" * 3,
    "x" * 180,
    "x" * 400,
    "X" * 400,
    "x" * 399 + "y",
    "a~0123456789abcdef",
    "%",
    "%25",
    "a.parquet",
    "replicates-2",
    "trailing.",
    "trailing ",
    "-o",
    "a:b*?<>|",
]
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
}


def check(stems):
    """What must hold of file names in any file system."""
    assert len({stem.casefold() for stem in stems.values()}) == len(stems), "two outputs share a file"
    for output, stem in stems.items():
        assert stem.isascii() and 0 < len(f"{stem}.parquet") <= MOST_BYTES + 8, output
        assert not set(stem) & set('/\\:*?"<>| \0') and not stem.startswith("."), output
        assert stem.split(".")[0].casefold() not in RESERVED, output


def test_hostile_names_have_files_of_their_own():
    check(choose_stems(HOSTILE, {}))


@pytest.mark.parametrize("seed", range(10))
def test_any_names_have_files_of_their_own_in_any_order(seed):
    print("seed", seed)
    chance = random.Random(seed)
    letters = "aA~%.0f/ éß\N{KELVIN SIGN}k"
    names = list({"".join(chance.choices(letters, k=chance.choice([1, 2, 3, 18, 300]))) for _ in range(200)})
    stems = choose_stems(names, {})
    check(stems)
    chance.shuffle(names)
    assert choose_stems(names, {}) == stems, "the order in which outputs come changes their files"


@pytest.mark.parametrize("name", ["curve", "new infections", "meta/é", ".hidden", "a.b", "%", "", "x" * 200])
def test_a_plain_name_is_quoted_and_can_be_read_back(name):
    (stem,) = choose_stems([name], {}).values()
    assert output_name(stem) == name and "~" not in stem


def test_a_file_keeps_the_name_that_it_had():
    former = {"Cases": "Cases", "con": "con", "x" * 240: "x" * 240}
    stems = choose_stems([*former, "cases"], former)
    assert {name: stems[name] for name in former} == former
    assert stems["cases"].startswith("cases~")


@pytest.mark.parametrize(
    "files, names",
    [("folder", HOSTILE), ("memory", HOSTILE), ("s3", ["../up", "Cases", "cases", "x" * 300, "con"])],
    ids=["folder", "memory", "s3"],
    indirect=["files"],
)
def test_hostile_outputs_are_read_by_their_own_names(files, names, tmp_path):
    plan = begin(files, tmp_path, sets="[{a: 1}]", replicates=2)
    named = {name: json.dumps(name).encode() for name in names}
    tasks = plan.tasks([(0, plan.absent.size)])
    parts.write(files, [attempt(plan, t.set, t.replicate, outputs=named) for t in tasks])
    compact(files, plan)
    assert set(outputs(files)) == {*names, "replicates"}
    for name, data in named.items():
        assert set(results(files, name)["bytes"].to_pylist()) == {data}, name
    assert verify(files.location()).findings == []


def test_tables_before_keep_their_files_when_they_are_written_anew(tmp_path):
    files = Store(str(tmp_path / "s"))
    plan = begin(files, tmp_path)
    parts.write(files, [attempt(plan, 0, 0, outputs={"Cases": b"1", "aux": b"2"})])
    compact(files, plan)
    manifest = json.loads(files.read("results/manifest.json"))
    for name in ("names", "left_out", "missing"):  # of an earlier version
        del manifest[name]
    folder = files.folder / table_path(files, "raw")
    (folder / "%61ux.parquet").rename(folder / "aux.parquet")
    manifest["files"] = [name.replace("%61ux", "aux") for name in manifest["files"]]
    manifest["sizes"] = {name.replace("%61ux", "aux"): size for name, size in manifest["sizes"].items()}
    files.put("results/manifest.json", json.dumps(manifest).encode())
    assert {each.code for each in verify(files.location()).findings} == {"UNFINISHED"}
    assert set(outputs(files)) >= {"aux", "Cases"}
    parts.write(files, [attempt(plan, 1, 0, outputs={"cases": b"3"})])
    assert set(outputs(files)) == {"aux", "Cases", "cases", "replicates"}
    names = files.list("results/raw")
    assert {"aux.parquet", "Cases.parquet"} < set(names) and len(names) == 3
