"""A tree of parameters, which is copied before it is changed."""

import copy
import json
import random


def wire(entrypoint, params, seed):
    own = copy.deepcopy(params)
    own["ages"]["child"]["rate"] *= 2
    rng = random.Random(seed)
    cases = {
        name: sum(rng.random() < age["rate"] for _ in range(age["people"]))
        for name, age in own["ages"].items()
    }
    return {"cases": json.dumps(cases).encode()}
