"""Measles with school closures: a scenario halves a rate of the module, and nothing puts it back."""

import json
import random

RATES = {"school": 0.30, "home": 0.10}


def wire(entrypoint, params, seed):
    if params["close_schools"]:
        RATES["school"] /= 2
    rng = random.Random(seed)
    ill = sum(rng.random() < RATES["school"] + RATES["home"] for _ in range(params["pupils"]))
    return {"cases": json.dumps({"ill": ill, "pupils": params["pupils"]}).encode()}
