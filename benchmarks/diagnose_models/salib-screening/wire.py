"""A screening of the parameters of a small model (SALib)."""

import json

import numpy as np
from SALib.analyze import morris as analysis
from SALib.sample import morris


def wire(entrypoint, params, seed):
    problem = {"num_vars": 3, "names": ["beta", "gamma", "mu"], "bounds": [[0, 1]] * 3}
    inputs = morris.sample(problem, params["paths"], seed=seed % 2**32)
    results = np.sin(inputs[:, 0]) * params["weight"] + inputs[:, 1] ** 2
    indices = analysis.analyze(problem, inputs, results, seed=seed % 2**32)
    return {"indices": json.dumps([float(value) for value in indices["mu_star"]]).encode()}
