"""What a task finds of those before it, under each executor: measured, and the table of it in the docs.

    tests/bundles/leaves, three tasks under each executor in a worker of its own -> {leak: {executor: found}}

`python tests/leak_matrix.py` writes the table into docs/executors.md; test_leaks.py compares the two.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "executors.md"
BEGIN, END = "<!-- made by `make leaks` -->\n", "<!-- end -->\n"
EXECUTORS = ("direct", "isolated_warm", "isolated_fork", "cold")
TASKS = 3

# A worker of its own: `direct` shares all of it, and the packages that the model installs are not ours.
WORKER = """
import json, sys
from pathlib import Path
from modelops_dask import bundle, executors
from modelops_dask.settings import Settings
source, folder, kind, fresh, tasks = json.loads(sys.argv[1])
chosen = Settings(
    bundles_cache_dir=Path(folder, "bundles"), venvs_dir=Path(folder, "venvs"),
    executor_type=kind, force_fresh_venv=fresh,
)
one = bundle.fetch(source, chosen.bundles_cache_dir)
with executors.create(chosen) as executor:
    for seed in range(tasks):
        outcome = executor.run(executors.Task(one, "leaves/all", {}, seed))
        assert outcome.status == "ok", outcome
        print(json.dumps({name: data.decode().splitlines() for name, data in outcome.outputs.items()}))
"""


def outcomes(kind: str, fresh: bool, folder: Path) -> list[dict[str, list[str]]]:
    """What each of the tasks left and found, under an executor, with `forceFreshVenv` or not."""
    venv.create(folder / "worker")
    temporary = folder / "temporary"
    temporary.mkdir()
    asked = json.dumps([str(HERE / "bundles" / "leaves"), str(folder), kind, fresh, TASKS])
    done = subprocess.run(
        [folder / "worker" / "bin" / "python", "-c", WORKER, asked],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(folder: Path) -> dict[str, dict[str, bool]]:
    """{column: {leak: whether later tasks find it}}: executors, and those that forceFreshVenv changes."""
    columns = {}
    for fresh in (False, True):
        for kind in EXECUTORS[fresh:]:  # `direct` has the worker's environment
            name = f"{kind} + forceFreshVenv" if fresh else kind
            own = folder / name
            own.mkdir()
            first, *later = outcomes(kind, fresh, own)
            assert first["found"] == [], f"the first task under {name} found {first['found']}"
            assert all(each["found"] == later[0]["found"] for each in later), (
                f"under {name} it varies: {later}"
            )
            column = by_row({leak: leak in later[0]["found"] for leak in first["left"]})
            if not fresh or column != columns[kind]:
                columns[name] = column
    return columns


def row_of(leak: str) -> str:
    """The row of the table that has a leak: several of a kind, `KIND: NAME`, share one."""
    return leak.partition(": ")[0]


def by_row(found: dict[str, bool]) -> dict[str, bool]:
    """{row: whether its leaks are found}; those of one kind are found all or none."""
    rows: dict[str, set[bool]] = {}
    for leak, is_found in found.items():
        rows.setdefault(row_of(leak), set()).add(is_found)
    mixed = {leak: is_found for leak, is_found in found.items() if len(rows[row_of(leak)]) > 1}
    assert not mixed, f"give these rows of their own: {mixed}"
    return {row: is_found for row, (is_found,) in rows.items()}


def table(columns: dict[str, dict[str, bool]]) -> str:
    """What was measured, in Markdown."""
    rows = [["left behind by a task", *(f"`{name}`" for name in columns)], ["---"] * (len(columns) + 1)]
    rows += [
        [leak, *("**found**" if column[leak] else "–" for column in columns.values())]
        for leak in columns["direct"]
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def documented() -> str:
    """The table that the docs have."""
    return DOCS.read_text().partition(BEGIN)[2].partition(END)[0]


def documented_columns() -> dict[str, dict[str, bool]]:
    """What the docs say, as measure() has it."""
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in documented().splitlines()
    )
    names = [name.strip("`") for name in head[1:]]
    return {name: {row[0]: row[at] == "**found**" for row in rows} for at, name in enumerate(names, 1)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = table(measure(Path(folder)))
    head, begin, rest = DOCS.read_text().partition(BEGIN)
    DOCS.write_text(head + begin + made + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
