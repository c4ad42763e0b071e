"""A model whose tasks take most of a second."""

import json
import random
import time


def wire(entrypoint, params, seed):
    time.sleep(0.5)  # in place of the computing: the machine may have little to spare
    rng = random.Random(seed)
    return {"cases": json.dumps(sum(rng.random() < params["rate"] for _ in range(500))).encode()}
