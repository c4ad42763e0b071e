"""Seed the generators that a model draws from: `random`, NumPy's global state, and the model's own.

    from modelops_dask.seeding import seed_task, watch_model

    watch_model(".")  # before the model is imported: the bundle's folder
    from wire import wire

    seed_task(seed)
    wire(entrypoint, params, seed)  # draws the same numbers as under every executor

This module uses only the standard library and Python 3.9's language: runners load it by path in the bundle's
environment, together with generators.py, which finds and seeds the generators at module level.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for this import
    from typing import Any

    from modelops_dask.generators import ModelGenerators

# The generator behind the functions of `random`.
SHARED_GENERATOR: Any = random.random.__self__  # type: ignore[attr-defined]  # a method, not a function
_seed_shared = super(random.Random, SHARED_GENERATOR).seed


_watched: ModelGenerators | None = None


def watch_model(bundle: str) -> ModelGenerators:
    """Also seed the generators that a model creates when it is imported.

    This applies to studies whose study.json has `reseeds`. Call it before the model is imported.

    Args:
        bundle: The bundle's folder.
    """
    global _watched
    if _watched is not None:
        _watched.close()
    _watched = _load_sibling("generators").ModelGenerators(bundle, SHARED_GENERATOR)
    return _watched


def seed_task(seed: int) -> None:
    """Seed the model's generators from a task's seed, exactly as executors do before each task.

    Call it when the model has been imported, just before its wire function. NumPy is not imported for this:
    if the task is the first to import it, its state is seeded then.

    Args:
        seed: The task's seed, from 0 to 2**64 - 1.
    """
    expect_numpy()
    seed_globals(seed)
    if _watched is not None:
        _watched.collect()
        _watched.seed(seed)


def seed_globals(seed: int) -> None:
    """Seed `random` and NumPy's global state.

    After expect_numpy(), NumPy is also seeded if a task is the first to import it.
    """
    _seed_shared(seed)  # with the next line the same as random.seed() with a number, in 0.8 of the time
    SHARED_GENERATOR.gauss_next = None
    _NumpySeeder.seed = seed
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(seed if seed < 1 << 32 else _words(seed))


def expect_numpy() -> None:
    """Also seed NumPy's global state if a task is the first to import NumPy."""
    if "numpy.random" not in sys.modules and not any(
        isinstance(finder, _NumpySeeder) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _NumpySeeder())


def _load_sibling(name: str) -> Any:
    """Load a module of this folder under a name that no model uses."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_modelops_{name}", path)
    assert spec is not None and spec.loader is not None  # for mypy: a path that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _words(seed: int) -> list[int]:
    """Convert a seed for NumPy's legacy seeding, which takes 32 bits or a list of them; explicit seeds may
    have 64 bits.
    """
    return [seed & 0xFFFFFFFF, seed >> 32]


class _NumpySeeder:
    """A finder in sys.meta_path that seeds NumPy's global state when a task is the first to import it.

    Importing NumPy for every model would cost models without it 0.1 s per process.
    """

    seed: int | None = None  # of the running task

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != "numpy.random":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_seed(module: Any) -> None:
                execute(module)
                if self.seed is not None:
                    module.seed(_words(self.seed) if self.seed >= 1 << 32 else self.seed)

            spec.loader.exec_module = execute_and_seed  # type: ignore[method-assign]  # for this import
        return spec
