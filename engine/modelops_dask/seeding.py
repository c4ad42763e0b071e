"""Seed what all code of a process shares: `random` and NumPy's global state.

    from modelops_dask.seeding import seed_task

    seed_task(seed)
    wire(entrypoint, params, seed)  # draws what it draws under every executor

Standard library only, and Python 3.9's language: runners load this file by path in the bundle's environment.
Generators that a model makes itself are the model's to seed.
"""

from __future__ import annotations

import importlib.util
import random
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for this
    from typing import Any

# The generator behind the functions of `random`.
SHARED_GENERATOR: Any = random.random.__self__  # type: ignore[attr-defined]  # a method, not a function
_seed_shared = super(random.Random, SHARED_GENERATOR).seed


def seed_task(seed: int) -> None:
    """Seed `random` and NumPy's global state from a task's seed, exactly as executors do before each task.

    Call it when the model is imported, just before its wire function. NumPy is not imported for this: if the
    task is the first to import it, its state is seeded then.

    Args:
        seed: The task's seed, from 0 to 2**64 - 1.
    """
    expect_numpy()
    seed_globals(seed)


def seed_globals(seed: int) -> None:
    """As seed_task(), where expect_numpy() was called before the model was imported."""
    _seed_shared(seed)  # with the next line what random.seed() does with a number, at 0.8 of the price
    SHARED_GENERATOR.gauss_next = None
    _NumpySeeder.seed = seed
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(seed if seed < 1 << 32 else _words(seed))


def expect_numpy() -> None:
    """Have NumPy's global state seeded also when a task is the first to import NumPy."""
    if "numpy.random" not in sys.modules and not any(
        isinstance(finder, _NumpySeeder) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _NumpySeeder())


def _words(seed: int) -> list[int]:
    """NumPy's legacy seeding takes 32 bits or a list of them; an explicit seed of a study may have 64."""
    return [seed & 0xFFFFFFFF, seed >> 32]


class _NumpySeeder:
    """A finder in sys.meta_path: seeds NumPy's global state when a task is the first to import it.

    To import NumPy for every model would cost those that do without it 0.1 s a process.
    """

    seed: int | None = None  # of the task under way

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
