"""Generators that a model keeps at module level: seeded before each task, alike under every executor."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask import bundle, executors, seeding

KINDS = ("cold", "isolated_fork", "isolated_warm", "direct")
ENGINE = Path(seeding.__file__).parents[1]

# Every kind of generator and every kind of place. All that have a seed have the same.
SHARED = """
import functools, random
from types import SimpleNamespace
import numpy as np
from numpy.random import Generator

rng = np.random.default_rng(2024)
same = rng
legacy = np.random.RandomState(2024)
legacy_pcg = np.random.RandomState(np.random.PCG64(2024))
python = random.Random(2024)
pcg = Generator(np.random.PCG64(2024))
dxsm = Generator(np.random.PCG64DXSM(2024))
mersenne = Generator(np.random.MT19937(2024))
philox = Generator(np.random.Philox(2024))
small = Generator(np.random.SFC64(2024))
bits = np.random.PCG64(2024)
of_system = random.SystemRandom()
from_library = np.random.mtrand._rand  # NumPy's global state

class Streams:
    births = np.random.default_rng(2024)
    __slots__ = ("deaths",)

    def __init__(self):
        self.deaths = np.random.default_rng(2024)

    def by_default(self, rng=np.random.default_rng(2024)):
        return rng

    @staticmethod
    def of_static(*, rng=random.Random(2024)):
        return rng

streams = Streams()
in_list = [np.random.default_rng(2024), {"deep": (np.random.default_rng(2024),)}]
named = {"a": np.random.default_rng(2024), 1: np.random.default_rng(2024)}
space = SimpleNamespace(rng=np.random.default_rng(2024))
spawned = [np.random.default_rng(child) for child in np.random.SeedSequence(2024).spawn(2)]
draw = np.random.default_rng(2024).random
normal = functools.partial(np.random.default_rng(2024).normal, 3)

def drawer():
    rng = np.random.default_rng(2024)
    return lambda: rng

closed_over = drawer()

@functools.lru_cache
def cached(rng=np.random.default_rng(2024)):
    return rng

DRAWS = {
    "rng": lambda: rng.random(),
    "children": lambda: rng.spawn(1)[0].random(),
    "legacy": lambda: legacy.normal(),  # of which two are drawn at a time
    "legacy_pcg": lambda: legacy_pcg.normal(),
    "python": lambda: python.gauss(0, 1),
    "pcg": lambda: pcg.integers(1 << 30, dtype="uint32").item(),  # of which two are drawn at a time
    "dxsm": lambda: dxsm.random(),
    "mersenne": lambda: mersenne.random(),
    "philox": lambda: philox.random(),
    "small": lambda: small.random(),
    "bits": lambda: Generator(bits).random(),
    "births": lambda: Streams.births.random(),
    "deaths": lambda: streams.deaths.random(),
    "by_default": lambda: streams.by_default().random(),
    "of_static": lambda: Streams.of_static().random(),
    "in_list": lambda: in_list[0].random(),
    "deep": lambda: in_list[1]["deep"][0].random(),
    "named": lambda: named["a"].random(),
    "numbered": lambda: named[1].random(),
    "space": lambda: space.rng.random(),
    "spawned 0": lambda: spawned[0].random(),
    "spawned 1": lambda: spawned[1].random(),
    "draw": lambda: draw(),
    "normal": lambda: normal(),
    "closed over": lambda: closed_over().random(),
    "cached": lambda: cached().random(),
}
"""
OTHER = """
import numpy as np
from models.shared import rng as borrowed
rng = np.random.default_rng(2024)
DRAWS = {"rng": lambda: rng.random(), "borrowed": lambda: borrowed.random()}
"""
# Imported only by tasks, in one order or another. What it draws at its import must not depend on the task.
LAZY = """
import numpy as np, random
import models.inner
rng = np.random.default_rng(2024)
constant = rng.random() + models.inner.rng.random()
DRAWS = {
    "rng": lambda: rng.random(),
    "constant": lambda: constant,
    "inner": lambda: models.inner.rng.random(),
}
"""
INNER = """
import random
rng = random.Random(2024)
"""
ALSO_LAZY = """
import numpy as np
from models.shared import rng as a_rng
rng = np.random.RandomState(2024)
DRAWS = {"rng": lambda: rng.normal(), "a_rng": lambda: a_rng.random()}
"""
WIRE = """
import importlib, json
import numpy as np
from models import other, shared

def wire(entrypoint, params, seed):
    modules = [shared, other] + [importlib.import_module(name) for name in params["imports"]]
    drawn = {}
    for _ in range(params["times"]):
        for module in modules:
            for name, draw in module.DRAWS.items():
                drawn.setdefault(module.__name__ + " " + name, []).append(draw())
    if params["replaces"]:
        shared.pcg = np.random.default_rng(2024)
        shared.streams = shared.Streams()
        shared.named["a"] = np.random.default_rng(3)
    return {"drawn": json.dumps(drawn)}
"""
MODEL = {
    "wire.py": WIRE,
    "models/__init__.py": "",
    "models/shared.py": SHARED,
    "models/other.py": OTHER,
    "models/lazy.py": LAZY,
    "models/inner.py": INNER,
    "models/also_lazy.py": ALSO_LAZY,
}
BY_HAND = """
import json, sys
from modelops_dask.seeding import seed_task, watch_model
watch_model(".")
from wire import wire
params, seed = json.loads(sys.argv[1])
seed_task(seed)
print(wire("m/s", params, seed)["drawn"])
"""


def run(folder, source, kind: str, tasks, *, reseeds: bool = True) -> list[dict]:
    """What tasks, (params, seed), drew, one after another under an executor."""
    chosen = settings(folder, executor_type=kind, executor_environment="image")
    model = replace(bundle.fetch(str(source), chosen.bundles_cache_dir), reseeds=reseeds)
    drawn = []
    with executors.create(chosen) as executor:
        for params, seed in tasks:
            outcome = executor.run(executors.Task(model, "m/s", params, seed))
            assert outcome.status == "ok", outcome.error
            drawn.append(json.loads(outcome.outputs["drawn"]))
    return drawn


def any_task(order: random.Random) -> tuple[dict, int]:
    imports = order.sample(["models.lazy", "models.also_lazy"], order.randrange(3))
    params = {"imports": imports, "times": order.randint(1, 4), "replaces": order.random() < 0.3}
    return params, order.choice([0, 1, 2**32 - 1, 2**63, 2**64 - 1, order.randrange(2**32)])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model"), MODEL)


@pytest.fixture
def order() -> random.Random:
    seed = random.randrange(2**32)
    print("order seed", seed)
    return random.Random(seed)


def test_a_task_draws_the_same_under_every_executor_whatever_ran_before_it(tmp_path, model, order):
    tasks = [any_task(order) for _ in range(6)]
    expected = run(tmp_path, model, "cold", tasks)
    for kind in KINDS[1:]:
        for _ in range(3):
            shuffled = order.choices(range(len(tasks)), k=12)
            drawn = run(tmp_path, model, kind, [tasks[number] for number in shuffled])
            for number, values in zip(shuffled, drawn, strict=True):
                assert values == expected[number], (kind, tasks[number])


def test_a_task_by_hand_draws_the_same(tmp_path, model, order):
    task = any_task(order)
    done = subprocess.run(
        [sys.executable, "-c", BY_HAND, json.dumps(task)],
        cwd=model,
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(done.stdout)] == run(tmp_path, model, "cold", [task])


@pytest.mark.parametrize("kind", KINDS)
def test_every_generator_draws_its_own_numbers_for_each_seed(tmp_path, model, kind):
    params = {"imports": ["models.lazy", "models.also_lazy"], "times": 1, "replaces": False}
    seeds = [1, 2, 3, 1]
    drawn = run(tmp_path, model, kind, [(params, seed) for seed in seeds])
    assert drawn[0] == drawn[3]
    constant = [values.pop("models.lazy constant") for values in drawn]
    assert constant == constant[:1] * len(seeds)
    numbers = [
        number for values in drawn[:3] for drawn_numbers in values.values() for number in drawn_numbers
    ]
    assert len(set(numbers)) == len(numbers) > 90, "two generators, or two seeds, share a stream"


def test_one_generator_under_several_names_is_seeded_once(tmp_path, model):
    """Its numbers go on, and are not drawn a second time, by whatever name it is used."""
    params = {"imports": ["models.also_lazy"], "times": 3, "replaces": False}
    (drawn,) = run(tmp_path, model, "isolated_warm", [(params, 5)])
    names = ("models.shared rng", "models.other borrowed", "models.also_lazy a_rng")
    numbers = [number for name in names for number in drawn[name]]
    assert len(set(numbers)) == len(numbers) == 9


def test_without_reseeding_a_model_draws_as_it_always_did(tmp_path, model):
    """A study that began without it goes on so: every new process draws what the import left."""
    params = {"imports": [], "times": 1, "replaces": False}
    first, second = run(tmp_path, model, "cold", [(params, 1), (params, 2)], reseeds=False)
    assert first == second
    assert first["models.shared rng"] == first["models.other rng"]


SEEDS_ITSELF = """
import json, random
import numpy as np
rng, python, legacy = np.random.default_rng(1), random.Random(1), np.random.RandomState(1)

def wire(entrypoint, params, seed):
    global rng
    rng = np.random.default_rng(seed)
    python.seed(seed)
    legacy.seed(seed)
    return {"drawn": json.dumps({"all": [rng.random(), python.random(), legacy.normal()]})}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_seeds_its_generators_itself_is_unaffected(tmp_path, kind):
    source = write_bundle(tmp_path / "model", {"wire.py": SEEDS_ITSELF})
    tasks = [({}, seed) for seed in (3, 4, 3)]
    assert run(tmp_path, source, kind, tasks) == run(tmp_path, source, kind, tasks, reseeds=False)


MADE_BY_TASK = """
import json
import numpy as np
rng = None

def wire(entrypoint, params, seed):
    rng = np.random.default_rng(2024)
    return {"drawn": json.dumps({"all": [rng.random()]})}
"""


def test_what_a_task_makes_itself_is_left_alone(tmp_path):
    source = write_bundle(tmp_path / "model", {"wire.py": MADE_BY_TASK})
    first, second = run(tmp_path, source, "isolated_warm", [({}, 1), ({}, 2)])
    assert first == second


def test_an_import_that_fails_in_a_task_has_the_traceback_that_it_always_had(tmp_path):
    files = {
        "wire.py": "def wire(e, p, s):\n    import broken\n",
        "broken.py": "import more_broken\n",
        "more_broken.py": "1 / 0\n",
    }
    source = write_bundle(tmp_path / "model", files)
    chosen = settings(tmp_path, executor_type="cold")
    model = bundle.fetch(str(source), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        error, plain = (
            executor.run(executors.Task(replace(model, reseeds=reseeds), "m/s", {}, 1)).error
            for reseeds in (True, False)
        )
    assert error == plain and "generators.py" not in error and "ZeroDivisionError" in error
