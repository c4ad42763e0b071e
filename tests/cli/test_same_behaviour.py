"""tools/same_behaviour.py: it says that versions differ where they do, and only there."""

import importlib.util
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PATH = Path(__file__).parents[2] / "tools" / "same_behaviour.py"
spec = importlib.util.spec_from_file_location("same_behaviour", PATH)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

MANIFESTS = "---\n# Source: chart/templates/a.yaml\nkind: A\n---\n# Source: chart/templates/b.yaml\nkind: B\n"


def test_what_differs_is_shown_and_counted(capsys):
    assert tool.compare({"a": "1\n", "b": "2\n"}, {"a": "1\n", "b": "2\n"}) == 0
    assert capsys.readouterr().out == "2 alike, 0 different\n"
    assert tool.compare({"a": "1\n", "b": "2\n"}, {"a": "1\n", "c": "2\n"}) == 1
    said = capsys.readouterr().out
    assert "== b" in said and "== c" in said and "-2" in said and "+missing" in said
    assert said.endswith("1 alike, 2 different\n")


def test_objects_do_not_depend_on_files_and_their_order():
    moved = (
        "---\n# Source: chart/templates/x/b.yaml\nkind: B\n---\n# Source: chart/templates/x/a.yaml\nkind: A\n"
    )
    assert tool.sort_objects(MANIFESTS) == tool.sort_objects(moved)
    assert tool.sort_objects(MANIFESTS) != tool.sort_objects(moved.replace("kind: B", "kind: C"))


@pytest.mark.parametrize(("row", "differs"), [({"x": 2}, True), ({"seconds": 9.0}, False), ({}, False)])
def test_rows_are_compared_without_what_varies(tmp_path, row, differs):
    lines = []
    for number, values in enumerate(({"x": 1, "seconds": 1.0}, {"x": 1, "seconds": 1.0, **row})):
        folder = tmp_path / str(number)
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist([values]), folder / f"{number:032x}.parquet")
        lines.append(set(tool.list_files(folder)))
    assert (lines[0] != lines[1]) == differs


def test_json_keeps_what_does_not_vary():
    before = {"ok": 6, "run": {"seconds": 3.1, "peak_bytes": 7}, "built": "2026-01-01T10:00:00Z", "of": ["a"]}
    after = {"ok": 6, "run": {"seconds": 4.2, "peak_bytes": 8}, "built": "2026-01-02T11:00:00Z", "of": ["a"]}
    assert tool.mask_varying(before) == tool.mask_varying(after)
    assert tool.mask_varying(before) != tool.mask_varying(after | {"ok": 5})
