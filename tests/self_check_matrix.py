"""Small models x presets x sizes: where results differ from a fresh process, does somebody say so?

    a model, a preset, a number of tasks -> `study run` -> stored outputs, compared with fresh processes
                                         -> the run's self-check and `study verify --sample`: what they say
    -> a Cell, and what is wrong with it

`make check-matrix` runs all cells and prints a table; exit status 1 when a cell is wrong:

- results differ from a fresh process, and the run and verify are silent;
- a model that disturbs every later task, and the run itself is silent;
- results are those of a fresh process, and either warns.

All of them take hours. CELLS=N runs only so many, chosen by SEED.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelops_dask.bundle import fetch
from modelops_dask.executors.process import HASH_SEED, THREAD_VARIABLES
from modelops_dask.plan import spec as specs
from modelops_dask.store.checks import describe
from modelops_dask.store.files import Store
from modelops_dask.store.fold import read_generations, winners
from modelops_dask.store.requests import plan_of
from modelops_dask.study.drive import SILENT
from mops_helm.study import studies, verification
from mops_helm.values import presets

SIZES = {20: (10, 2), 400: (40, 10)}  # sets and replicates
SAMPLE = 20
PRESETS = (
    "baseline",
    "single-process",
    "direct",
    "debug-isolated",
    "isolated-fork",
    "cold",
    "fresh-venv",
)
HEAD = "import random, os, sys, time, tempfile, pathlib\n"
END = """
def wire(entrypoint, params, seed):
    return {"y": repr(model(params["x"], seed, params)).encode()}
"""


@dataclass(frozen=True)
class Model:
    """The source of model(x, seed, params).

    `later`: it disturbs every later task, where state carries over. `healthy`: it is a function of its
    arguments. `packages`: it needs those of this interpreter.
    """

    source: str
    later: bool = False
    healthy: bool = False
    packages: bool = False
    volatile: str = "[]"
    end: str = END

    @property
    def text(self) -> str:
        return HEAD + self.source + self.end


MODELS = {
    # What is left in the process
    "class attribute": Model(
        "class M:\n    total = 0\ndef model(x, seed, params):\n"
        "    M.total += x + 1\n    return M.total + seed",
        later=True,
    ),
    "default argument": Model(
        "def model(x, seed, params, seen=[]):\n    seen.append(x)\n    return len(seen), seed", later=True
    ),
    "module state, always": Model(
        "STATE = []\ndef model(x, seed, params):\n    STATE.append(seed)\n    return sum(STATE)", later=True
    ),
    "module state, by one set": Model(
        "S = {}\ndef model(x, seed, params):\n    if x == 3:\n        S['decay'] = 2\n"
        "    return S.get('decay', 1) * seed"
    ),
    "the task before": Model(
        "last = [0]\ndef model(x, seed, params):\n"
        "    value = seed + last[0]\n    last[0] = x + 1\n    return value",
        later=True,
    ),
    "cache that forgets the seed": Model(
        "import functools\nS = []\n@functools.lru_cache(None)\ndef base(x):\n    return random.random()\n"
        "def model(x, seed, params):\n    return base(x)"
    ),
    "environment variable": Model(
        "def model(x, seed, params):\n    n = int(os.environ.get('MODEL_RUNS', '0'))\n"
        "    os.environ['MODEL_RUNS'] = str(n + 1)\n    return n, seed",
        later=True,
    ),
    "working directory": Model(
        "def model(x, seed, params):\n    depth = len(pathlib.Path.cwd().parts) if MOVED else 0\n"
        "    MOVED.append(1)\n    os.chdir(tempfile.mkdtemp(dir=tempfile.gettempdir()))\n"
        "    return bool(depth), seed\nMOVED = []",
        later=True,
    ),
    "umask": Model(
        "def model(x, seed, params):\n    before = os.umask(0o077)\n    return before, seed", later=True
    ),
    "decimal context": Model(
        "import decimal\ndef model(x, seed, params):\n    value = decimal.Decimal(1) / 7\n"
        "    decimal.getcontext().prec = 5 + x\n    return str(value), seed",
        later=True,
    ),
    "time zone": Model(
        "def model(x, seed, params):\n    hour = time.localtime(0).tm_hour\n"
        "    os.environ['TZ'] = 'UTC-5'\n    time.tzset()\n    return hour, seed",
        later=True,
    ),
    "native state": Model(
        "import ctypes\nlibc = ctypes.CDLL(None)\ndef model(x, seed, params):\n    return libc.rand(), seed",
        later=True,
    ),
    "generator out of reach": Model(
        "draws = iter(random.Random(2024).random, None)\n"
        "def model(x, seed, params):\n    return next(draws), x",
        later=True,
    ),
    "NumPy print options": Model(
        "import numpy as np\ndef model(x, seed, params):\n    text = str(np.array([1 / 3]))\n"
        "    np.set_printoptions(precision=3)\n    return text, seed",
        later=True,
        packages=True,
    ),
    "pandas option": Model(
        "import pandas as pd\ndef model(x, seed, params):\n    text = str(pd.Series([1 / 3, seed]))\n"
        "    pd.set_option('display.precision', 2)\n    return text",
        later=True,
        packages=True,
    ),
    # Files
    "temporary file": Model(
        "def model(x, seed, params):\n    path = pathlib.Path(tempfile.gettempdir(), 'model-runs')\n"
        "    n = len(path.read_text()) if path.exists() else 0\n    path.write_text('x' * (n + 1))\n"
        "    return n, seed",
        later=True,
    ),
    "file elsewhere": Model(
        "def model(x, seed, params):\n    path = pathlib.Path(os.environ['ELSEWHERE'], 'runs')\n"
        "    n = len(path.read_text()) if path.exists() else 0\n    path.write_text('x' * (n + 1))\n"
        "    return n, seed",
        later=True,
    ),
    # Chance
    "chance of the system": Model(
        "def model(x, seed, params):\n    return random.SystemRandom().random()", later=True
    ),
    "clock": Model("def model(x, seed, params):\n    return time.time_ns(), seed", later=True),
    # Healthy
    "generator of the module": Model(
        "rng = random.Random(2024)\ndef model(x, seed, params):\n    return rng.random(), x", healthy=True
    ),
    "NumPy generator of the module": Model(
        "import numpy as np\nrng = np.random.default_rng(2024)\n"
        "def model(x, seed, params):\n    return float(rng.random()), seed",
        healthy=True,
        packages=True,
    ),
    "generator without a seed": Model(
        "rng = random.Random()\ndef model(x, seed, params):\n    return rng.random()", healthy=True
    ),
    "pure": Model("def model(x, seed, params):\n    return random.Random(seed).random() * x", healthy=True),
    "global generators": Model(
        "def model(x, seed, params):\n    return [random.random() for _ in range(5)]", healthy=True
    ),
    "NumPy": Model(
        "import numpy as np\ndef model(x, seed, params):\n    rng = np.random.default_rng(seed)\n"
        "    return (rng.normal(size=50) @ rng.normal(size=(50, 50))).sum().hex(), np.random.random()",
        healthy=True,
        packages=True,
    ),
    "pandas": Model(
        "import numpy as np, pandas as pd\ndef model(x, seed, params):\n"
        "    frame = pd.DataFrame({'a': np.random.default_rng(seed).normal(size=20), 'b': [0, 1] * 10})\n"
        "    return frame.groupby('b').mean().to_csv()",
        healthy=True,
        packages=True,
    ),
    "changes its arguments": Model(
        "def model(x, seed, params):\n    params['x'] += 1\n    params['list'].append(seed)\n"
        "    return params['x'], len(params['list'])",
        healthy=True,
    ),
    "cache of a pure function": Model(
        "import functools\n@functools.lru_cache(None)\ndef square(x):\n    return x * x\n"
        "def model(x, seed, params):\n    return square(x), seed",
        healthy=True,
    ),
    "imports late": Model(
        "def model(x, seed, params):\n    import fractions, statistics\n"
        "    return statistics.mean([x, seed, fractions.Fraction(1, 3)])",
        healthy=True,
    ),
    "order of a set": Model(
        "def model(x, seed, params):\n    return list({f'{x}-{n}' for n in range(20)}), seed", healthy=True
    ),
    "threads": Model(
        "from concurrent.futures import ThreadPoolExecutor\ndef model(x, seed, params):\n"
        "    with ThreadPoolExecutor(2) as pool:\n        return sum(pool.map(lambda n: n * seed, range(9)))",
        healthy=True,
    ),
    "no chance": Model("def model(x, seed, params):\n    return x ** 3", healthy=True),
    "no chance, its seed told": Model("def model(x, seed, params):\n    return x, seed", healthy=True),
    "counts its runs in a log": Model(
        "RUNS = []\ndef model(x, seed, params):\n"
        "    RUNS.append(x)\n    print('run', len(RUNS))\n    return seed",
        healthy=True,
    ),
    "a time stamp that is volatile": Model(
        "",
        healthy=True,
        volatile='["made"]',
        end="def wire(entrypoint, params, seed):\n"
        "    return {'y': str(seed).encode(), 'made': str(time.time_ns()).encode()}\n",
    ),
}

# Fresh processes, quickly: forks of an interpreter that has imported nothing of the model. Each has empty
# folders: what another wrote it does not see.
FRESH = """
import importlib, json, os, sys, tempfile
from modelops_dask import seeding
folder, tasks = json.loads(sys.stdin.read())
sys.path.insert(0, folder)
os.chdir(folder)
def run(params, seed):
    for variable in ("TMPDIR", "ELSEWHERE"):
        os.environ[variable] = tempfile.mkdtemp(dir=os.environ[variable])
    tempfile.tempdir = None
    seeding.watch_model(folder)
    wire = importlib.import_module("wire").wire
    seeding.seed_task(seed)
    outputs = wire("m.f/s", params, seed)
    return {name: data.hex() for name, data in outputs.items()}
for params, seed in tasks:
    sys.stdout.flush()
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(2, 1)
        answer = json.dumps(run(params, seed)).encode()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        print(pipe.read().decode())
    os.wait()
"""


@dataclass(frozen=True)
class Cell:
    """What became of a model under a preset.

    `n_wrong` outputs differ from a fresh process; `run` and `verify` are what these said, "" if nothing.
    """

    model: str
    preset: str
    n_tasks: int
    n_wrong: int
    run: str
    verify: str

    @property
    def problem(self) -> str:
        """What is wrong with the tools in this cell; "" if nothing."""
        model = MODELS[self.model]
        if self.n_wrong and not (self.run or self.verify):
            return "silent"
        if self.n_wrong and model.later and not self.run:
            return "the run is silent"
        if not self.n_wrong and (self.run or self.verify):
            return "warned of what is right"
        if self.n_wrong and model.healthy:
            return "a healthy model has wrong results"
        return ""


def all_cells(sizes: Sequence[int] = tuple(SIZES)) -> list[tuple[str, str, int]]:
    """Every model, preset and size; packages are not built for each runner."""
    return [
        (name, preset, size)
        for size in sizes
        for name, model in MODELS.items()
        for preset in PRESETS
        if not (model.packages and preset == "fresh-venv")
    ]


def sample_cells(n_cells: int, seed: int, sizes: Sequence[int]) -> list[tuple[str, str, int]]:
    return random.Random(seed).sample(all_cells(sizes), n_cells)


@contextmanager
def variables(**values: str):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    tempfile.tempdir = None
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        tempfile.tempdir = None


def caches(folder: Path):
    """Bundles and environments of their own."""
    return variables(
        MODELOPS_BUNDLES_CACHE_DIR=str(folder / "bundles"), MODELOPS_VENVS_DIR=str(folder / "venvs")
    )


def measure(name: str, preset: str, size: int, folder: Path) -> Cell:
    """Run a cell in a folder of its own."""
    model, (n_sets, replicates) = MODELS[name], SIZES[size]
    bundle, temporary, elsewhere = folder / "bundle", folder / "temporary", folder / "elsewhere"
    for each in (bundle, temporary, elsewhere):
        each.mkdir(parents=True)
    (bundle / "wire.py").write_text(model.text)
    content = {"name": "s", "entrypoint": "m.f/s", "replicates": replicates, "fixed": {"list": []}}
    content |= {"grid": {"x": list(range(n_sets))}, "volatile": json.loads(model.volatile)}
    (folder / "study.yaml").write_text(json.dumps(content))
    preset_names, sets = choose_values(preset, model)
    with variables(TMPDIR=str(temporary), ELSEWHERE=str(elsewhere)):
        spec, store = specs.load(folder / "study.yaml"), Store(str(folder / "store"))
        workers = studies.choose_workers(preset_names, [], sets)
        model_bundle = fetch(str(bundle), workers.settings.bundles_cache_dir)
        summary = studies.run_study(spec, model_bundle, store, workers, watcher=SILENT)
        assert summary.counts["ok"] == size, summary.failures
        said = (
            "; ".join(describe(summary.self_check)[1:])
            if summary.self_check and summary.self_check.different
            else ""
        )
        report = verification.verify_study(str(folder / "store"), SAMPLE, None, workers)
    codes = sorted({finding.code for finding in report.findings})
    n_wrong = count_wrong(store, bundle, model, folder)
    return Cell(name, preset, size, n_wrong, said, " ".join(codes))


def choose_values(preset: str, model: Model) -> tuple[list[str], list[str]]:
    """--preset and --set of a cell: two processes unless the preset has one, and this interpreter's packages
    for a model that needs them, which a preset with an environment of the bundle would not have.
    """
    values = presets.find(preset).values
    sets = ["workers.replicas=1"] + ([] if "workers" in values else ["workers.processes=2"])
    executor = values["executor"]
    if not model.packages or executor["environment"] == "image":
        return [preset], sets
    sets += [f"workers.{name}={value}" for name, value in values.get("workers", {}).items()]
    return [], [*sets, f"executor.type={executor['type']}", "executor.environment=image"]


def count_wrong(store: Store, bundle: Path, model: Model, folder: Path) -> int:
    """How many tasks have other outputs than in a fresh process, volatile ones left out."""
    plan = plan_of(store)
    tasks = list(plan.tasks([(0, plan.absent.size)]))
    scratch = folder / "fresh"
    scratch.mkdir()
    request = json.dumps([str(bundle), [[task.params, task.seed] for task in tasks]])
    environment = {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, "1"),
        "PYTHONHASHSEED": HASH_SEED,
        "TMPDIR": str(scratch),
        "ELSEWHERE": str(scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", FRESH],
        input=request,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    stored = {}
    for winner in winners(store, plan, ["outputs"], read_generations(store, plan)):
        stored |= dict(zip(winner.tasks.tolist(), winner.table["outputs"].to_pylist(), strict=True))
    volatile = json.loads(model.volatile)
    n_wrong = 0
    for index, line in enumerate(done.stdout.splitlines()):
        fresh = {name: bytes.fromhex(text) for name, text in json.loads(line).items()}
        n_wrong += any(fresh[key] != data for key, data in dict(stored[index]).items() if key not in volatile)
    return n_wrong


def render(cells: Sequence[Cell]) -> str:
    """A table: a row for each model, a column for each preset and size."""
    columns = list(dict.fromkeys((cell.preset, cell.n_tasks) for cell in cells))
    by_place = {(cell.model, cell.preset, cell.n_tasks): cell for cell in cells}
    head = ["model", *(f"{preset} {size}" for preset, size in columns)]
    rows = [head, ["---"] * len(head)]
    for name in dict.fromkeys(cell.model for cell in cells):
        row = [name]
        for column in columns:
            cell = by_place.get((name, *column))
            row.append(describe_cell(cell) if cell else "")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def describe_cell(cell: Cell) -> str:
    """How many are wrong and who says so: R the run, V verify."""
    who = "".join(letter for letter, said in (("R", cell.run), ("V", cell.verify)) if said) or "-"
    return f"{cell.n_wrong} {who}" + (f" **{cell.problem}**" if cell.problem else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=0, help="only so many, chosen by the seed")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--sizes", default="20,400")
    arguments = parser.parse_args()
    sizes = [int(text) for text in arguments.sizes.split(",")]
    chosen = sample_cells(arguments.cells, arguments.seed, sizes) if arguments.cells else all_cells(sizes)
    print(f"{len(chosen)} cells, seed {arguments.seed}", flush=True)
    cells = []
    with tempfile.TemporaryDirectory(prefix="check-matrix-") as folder, caches(Path(folder)):
        for number, (name, preset, size) in enumerate(chosen):
            cells.append(measure(name, preset, size, Path(folder, str(number))))
            shutil.rmtree(Path(folder, str(number)))
            print(f"{name}, {preset}, {size}: {describe_cell(cells[-1])}", flush=True)
    print(render(cells))
    n_wrong = sum(bool(cell.n_wrong) for cell in cells)
    problems = [cell for cell in cells if cell.problem]
    print(f"{len(cells)} cells; {n_wrong} differ from a fresh process; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
