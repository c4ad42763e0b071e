"""One scenario of forty leaves something, which one other notices."""

import json
import random

FOUND = set()


def wire(entrypoint, params, seed):
    if params["scenario"] == "s17":
        FOUND.add("s17")
    rng = random.Random(seed)
    rate = 0.9 if params["scenario"] == "s29" and FOUND else 0.1
    return {"cases": json.dumps(sum(rng.random() < rate for _ in range(200))).encode()}
