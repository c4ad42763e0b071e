"""A table that is dear to build is kept, by all that decides it; a generator is kept, and seeded anew."""

import json
import random
from functools import cache

RNG = random.Random()


@cache
def table(size, decay):
    return tuple(decay**number for number in range(size))


def wire(entrypoint, params, seed):
    RNG.seed(seed)
    weights = table(params["size"], params["decay"])
    return {"drawn": json.dumps(RNG.choices(range(params["size"]), weights, k=50)).encode()}
