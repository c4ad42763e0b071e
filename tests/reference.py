"""What every executor's results are compared with: a task in a new interpreter, without the engine.

    task -> a copy of the bundle, a temporary folder, `python` -> seed_task(seed), wire(...) -> Answer

Of the engine it uses nothing but watch_model() and seed_task(). MODELS are the models that are run so, ABSENT
those of tests/bundles that cannot be, with the reason. Which executor promises what is the table of
docs/executors.md.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import leak_matrix

BUNDLES = Path(__file__).parent / "bundles"
PROMISES = leak_matrix.documented_columns()  # {column: {row: whether a task may find what others left}}
WEAK = {("isolated_warm", "a changed file of the model")}  # tasks of one message may find it, say the docs
REPLICATES = int(os.environ.get("REFERENCE_REPLICATES", "2"))
TIMEOUT_SECONDS = 60

THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")
VARIABLES = {"PYTHONHASHSEED": "6640", **{f"{name}_NUM_THREADS": "1" for name in THREADS}}
SCRIPT = """
import json, sys
from modelops_dask.seeding import seed_task, watch_model

watch_model(".")
entrypoint, params, seed, answer = json.loads(sys.argv[1])
try:
    from wire import wire

    seed_task(seed)
    outputs = wire(entrypoint, params, seed)
except Exception as error:
    told = {"failed": type(error).__name__}
else:
    data = {name: item.encode() if isinstance(item, str) else item for name, item in outputs.items()}
    told = {"outputs": {name: item.hex() for name, item in data.items()}}
with open(answer, "w") as file:
    json.dump(told, file)
"""


class Task(NamedTuple):
    """`row`: of the leak table, what its answer depends on; "" for nothing that another task can change."""

    params: dict[str, Any]
    seed: int
    row: str


class Answer(NamedTuple):
    """`reason` is the exception's type; "" if there was none."""

    reason: str
    outputs: dict[str, bytes]


FAILS = Answer("?", {})  # by what it returns


@dataclass(frozen=True)
class Model:
    """A bundle, and a study of it.

    row: what its answers depend on, as in Task; by_row: the parameter that is the row. absent: executors that
    do not promise its answers, with the reason. failed: parameters of the tasks that have to fail although
    the model returns, by what docs/modelops.md says of outputs. raises: whether some tasks fail.
    """

    folder: str
    grid: Mapping[str, list]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    entrypoint: str = "model.run/any"
    replicates: int = REPLICATES
    row: str = ""
    by_row: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[Mapping[str, Any], ...] = ()
    raises: bool = False

    @property
    def name(self) -> str:
        return self.folder.replace("/", "-")

    @property
    def sets(self) -> list[dict[str, Any]]:
        """The parameters of each set of the study, in order."""
        return [
            dict(zip(self.grid, values, strict=True)) | self.fixed for values in product(*self.grid.values())
        ]

    def write_study(self, folder: Path) -> Path:
        path = folder / f"{self.name}.json"
        head = {"name": self.name, "entrypoint": self.entrypoint, "bundle": str(BUNDLES / self.folder)}
        path.write_text(json.dumps({**head, "replicates": self.replicates, "sets": self.sets}))
        return path

    def task(self, params: dict[str, Any], seed: int) -> Task:
        row = leak_matrix.row_of(params[self.by_row]) if self.by_row else self.row
        return Task(params, seed, row)

    def is_promised(self, task: Task, column: str) -> bool:
        """Whether an executor promises that no other task changes this one's answer."""
        weak = column in self.absent or (column, task.row) in WEAK
        return not weak and not PROMISES[column].get(task.row, False)


def leaks() -> list[str]:
    """What tests/bundles/leaves can leave."""
    script = "import json, wire; print(json.dumps(list(wire.LEFT)))"
    folder = BUNDLES / "leaves"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


NESTED = {"nested": {"rates": [0.1, [0.2, {"deep": [1]}]], "names": {"a": "b"}}, "flat": [1, 2]}
FINE, FAILED = (
    ("a table", "a table and metadata"),
    ("an error", "an error in metadata", "no bytes", "no outputs"),
)
MODELS = [
    Model("leaves", {"leaves": leaks()}, NESTED, by_row="leaves"),
    Model("knobs", {"x": list(range(6))}, {"raises": [3]}, raises=True),
    Model("faults", {"x": [1, 2]}, entrypoint="faults.wire/draw", row="the state of `random`"),
    Model("hungry", {"megabytes": [0, 30]}),
    Model("diagnose/c-library", {"rate": [0.1, 0.6]}, row="the state of a C library's generator"),
    Model("diagnose/class-cache", {"density": [0.1, 0.4], "size": [20]}, row="an attribute of a class"),
    Model(
        "diagnose/environment-variable",
        {"arm": ["standard", "high"], "people": [200]},
        row="an environment variable",
    ),
    Model(
        "diagnose/global-state", {"close_schools": [False, True], "pupils": [300]}, row="a global variable"
    ),
    Model("diagnose/deterministic", {"beta": [0.1, 0.7], "people": [100]}),
    Model("diagnose/healthy", {"beta": [0.2, 0.8], "groups": [1, 3]}),
    Model("diagnose/healthy-tables", {"attack_rate": [0.1, 1.5], "households": [50]}, raises=True),
    Model("diagnose/leak", {"speed": [0.5, 3.0]}, {"steps": 64}),
    Model(
        "diagnose/main-thread",
        {"doses": [5, 10]},
        absent={"direct": "tasks are not in the main thread, which alone may set signal handlers"},
    ),
    Model("diagnose/seed-not-passed", {"rate": [0.5, 2]}),
    Model("diagnose/shared-generator", {"rate": [1, 32]}, row="the state of a generator of its own"),
    Model("diagnose/thread-counter", {"arrivals": [0.3, 0.8]}, {"minutes": 200}),
    Model(
        "diagnose/working-folder",
        {"region": ["south", "north"], "occupancy": [0.3]},
        row="the working directory",
        absent={"direct": "a relative path does not lead to the bundle"},
    ),
    Model(
        "habits/errors-returned",
        {"answer": [*FINE, *FAILED]},
        failed=tuple({"answer": one} for one in FAILED),
        raises=True,
    ),
    Model("habits/own-file", {"region": ["south", "north"]}, row="a changed file of the model"),
    Model("habits/process-wide", {"visits": [2, 5]}, row="the state of `random`"),
    Model("habits/programs", {"x": [1, 2]}, absent={"direct": "PATH is the worker's"}),
    Model(
        "habits/units-in-place",
        {"season": ["wet"], "transmission": [{"rate": 365.0}, {"rate": 730.0}]},
        {"ages": [{"name": "child", "percent": 40}, {"name": "adult", "percent": 60}]},
        replicates=10,
    ),
]
ABSENT = {
    "diagnose/clock": "its output has the time of day",
    "diagnose/listing-order": "it draws in the order in which a file system lists files",
    "diagnose/unseeded": "it draws from a generator that nobody seeds",
    "diagnose/shared-file": "tasks that run side by side write one file in /tmp, which is nobody's own",
    "diagnose/patched-environment": "it needs packages of its own: test_diagnose_bundles.py runs it",
    "diagnose/self-patching": "it changes its environment: the row of an installed package",
    "meddler": "it changes files at random: test_executor_copies.py compares what is there",
}


def answers(model: Model, tasks: Iterable[Task], folder: Path) -> list[Answer]:
    """What each of the tasks answers in a new interpreter."""
    venv.create(folder / "environment")
    with ThreadPoolExecutor(2) as pool:
        numbered = [(folder, number, task) for number, task in enumerate(tasks)]
        return list(pool.map(lambda one: answer(model, *one), numbered))


def answer(model: Model, folder: Path, number: int, task: Task) -> Answer:
    """What a task answers in a new interpreter, with files that nobody else has."""
    own = folder / str(number)
    scratch, temporary, environment = own / "b", own / "t", folder / "environment"
    temporary.mkdir(parents=True)
    shutil.copytree(BUNDLES / model.folder, scratch, ignore=shutil.ignore_patterns("__pycache__"))
    if task.row == "an installed package":
        environment = own / "environment"
        venv.create(environment)
    command = json.dumps([model.entrypoint, task.params, task.seed, str(own / "answer")])
    variables = VARIABLES | {
        "TMPDIR": str(temporary),
        "PATH": os.pathsep.join((str(environment / "bin"), os.defpath)),
        "VIRTUAL_ENV": str(environment),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    subprocess.run(
        [environment / "bin" / "python", "-c", SCRIPT, command],
        cwd=scratch,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    told = json.loads((own / "answer").read_text())
    shutil.rmtree(own)
    if any(params.items() <= task.params.items() for params in model.failed):
        return FAILS
    return Answer(told.get("failed", ""), {k: bytes.fromhex(v) for k, v in told.get("outputs", {}).items()})
