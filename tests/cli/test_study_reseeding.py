"""Reseeding of a model's own generators in studies: on for stores that begin now, and on record."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from study_helpers import SMALL, mops_helm

WIRE = """
import json, random
rng = random.Random(2024)
def wire(entrypoint, params, seed):
    value = rng.random()
    print("drawn:", value)
    return {"y": json.dumps(value)}
"""
KINDS = ("cold", "isolated_fork", "isolated_warm", "direct")


class Case:
    """A study in a folder, and its store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "out" / "s"
        (folder / "model").mkdir()
        (folder / "model" / "wire.py").write_text(WIRE)
        self.write(replicates=4)

    def write(self, *, replicates: int) -> None:
        content = {"name": "s", "entrypoint": "m.f/s", "bundle": "model", "grid": {"x": [1, 2, 3]}}
        (self.folder / "study.yaml").write_text(json.dumps({**content, "replicates": replicates}))

    def run(self, kind: str, *flags: str, status: int = 0) -> str:
        done = mops_helm(
            "study", "run", "study.yaml", *SMALL, "--set", f"executor.type={kind}", *flags, cwd=self.folder
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def drop_reseeding(self) -> None:
        """As a store that an earlier version began."""
        path = self.store / "study.json"
        study = json.loads(path.read_text())
        assert study.pop("reseeds") is True
        path.write_text(json.dumps(study))

    def rows(self) -> list[dict]:
        tables = [pq.read_table(path) for path in sorted(self.store.glob("parts/*.parquet"))]
        return [row for table in tables for row in table.to_pylist()]

    def values(self) -> dict[tuple[int, int], bytes]:
        return {(row["set"], row["replicate"]): dict(row["outputs"])["y"] for row in self.rows()}

    def json(self, *words: str) -> dict:
        return json.loads(mops_helm("study", *words, "out/s", "-o", "json", cwd=self.folder).stdout)


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_made_at_import_is_seeded_for_each_task(case, kind):
    printed = case.run(kind)
    assert "Warning" not in printed and case.json("status")["variation"] == ""
    assert {row["reseeded"] for row in case.rows()} == {True}
    values = case.values()
    assert len(set(values.values())) == len(values) == 12
    again = mops_helm("study", "verify", "out/s", "--sample", "5", cwd=case.folder)
    assert again.returncode == 0 and "5 tasks run again" in again.stdout, again.stdout + again.stderr


def test_a_task_tried_by_hand_returns_what_is_stored(case):
    case.run("isolated_warm")
    expected = case.values()[2, 1].decode()
    tried = mops_helm("study", "try", "out/s", "--task", "2/1", *SMALL, cwd=case.folder)
    assert f"drawn: {expected}\n" in tried.stderr, tried.stdout + tried.stderr


def test_a_store_that_began_without_it_goes_on_without_it(case):
    case.run("cold")
    case.drop_reseeding()
    for path in case.store.glob("parts/*.parquet"):
        path.unlink()
    printed = case.run("cold")
    assert "Warning: replicates are equal" in printed
    assert {row["reseeded"] for row in case.rows()} == {False} and len(set(case.values().values())) == 1
    assert case.json("status")["mixed"] == ""
    again = mops_helm("study", "verify", "out/s", "--sample", "5", cwd=case.folder)
    assert again.returncode == 0, again.stdout + again.stderr


def test_results_of_both_kinds_in_one_store_are_named(case):
    case.run("cold")
    assert case.json("status")["mixed"] == ""
    case.drop_reseeding()
    case.write(replicates=5)
    printed = case.run("cold")
    mixed = case.json("status")["mixed"]
    assert mixed in printed and "(from now on)" in printed
    assert mixed.startswith("Results of this study come from different ways to seed generators:")
    assert "reseeded before each task (12 results); not reseeded before each task (3 results)" in mixed
    again = mops_helm("study", "verify", "out/s", "--sample", "15", cwd=case.folder)
    assert again.returncode == 0, "each runs again as it was run: " + again.stdout


def test_threads_of_one_process_cannot_and_the_rows_and_the_self_check_say_so(case):
    printed = case.run("direct", "--set", "workers.processes=1,workers.threads=2", status=3)
    assert "3 tasks compared with a run alone in a new process, 3 different" in printed
    assert {row["reseeded"] for row in case.rows()} == {False}
