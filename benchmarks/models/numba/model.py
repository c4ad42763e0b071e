"""A random walk in code that numba compiles: an array."""

import numba
import numpy as np


@numba.njit
def walk(drift, steps, seed):
    np.random.seed(seed)
    return np.cumsum(np.random.normal(drift, 1.0, steps))


def simulate(drift, steps, seed):
    return {"path": walk(drift, steps, seed)}
