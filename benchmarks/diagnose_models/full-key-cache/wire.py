"""A table that is dear to build is kept, by all that decides it."""

import json
import random
from functools import cache


@cache
def table(size, decay):
    return tuple(decay**number for number in range(size))


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    weights = table(params["size"], params["decay"])
    return {"drawn": json.dumps(rng.choices(range(params["size"]), weights, k=50)).encode()}
