"""Attack rates in households (NumPy)."""

import io

import numpy as np


def wire(entrypoint, params, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, params["households"])
    sink = io.BytesIO()
    np.save(sink, np.stack([sizes, rng.binomial(sizes, params["rate"])]))
    return {"households": sink.getvalue()}
