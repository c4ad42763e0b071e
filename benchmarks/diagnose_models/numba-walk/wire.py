"""Random walks in compiled code (numba), whose generator is seeded in each task."""

import io

import numba
import numpy as np


@numba.njit
def walk(seed, steps, drift):
    np.random.seed(seed)
    place, path = 0.0, np.empty(steps)
    for step in range(steps):
        place += np.random.normal(drift, 1.0)
        path[step] = place
    return path


def wire(entrypoint, params, seed):
    sink = io.BytesIO()
    np.save(sink, walk(seed % 2**32, params["steps"], params["drift"]))
    return {"path": sink.getvalue()}
