"""Estimates from a simulated series (statsmodels)."""

import json

import numpy as np
from statsmodels.tsa.ar_model import AutoReg


def wire(entrypoint, params, seed):
    noise = np.random.default_rng(seed).normal(size=params["length"])
    series = [0.0]
    for shock in noise:
        series.append(params["phi"] * series[-1] + shock)
    fitted = AutoReg(series, lags=1).fit()
    return {"estimate": json.dumps([float(value) for value in fitted.params]).encode()}
