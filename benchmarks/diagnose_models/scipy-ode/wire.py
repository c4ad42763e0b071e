"""An SEIR model with a rate that is drawn from a prior (SciPy)."""

import io

import numpy as np
from scipy.integrate import solve_ivp


def wire(entrypoint, params, seed):
    beta = np.random.default_rng(seed).lognormal(np.log(params["beta"]), 0.2)

    def flow(_, state):
        s, e, i, _ = state
        return [-beta * s * i, beta * s * i - 0.2 * e, 0.2 * e - 0.1 * i, 0.1 * i]

    solution = solve_ivp(flow, (0, 200), [0.999, 0, 0.001, 0], method=params["method"], t_eval=range(201))
    sink = io.BytesIO()
    np.save(sink, solution.y)
    return {"course": sink.getvalue()}
