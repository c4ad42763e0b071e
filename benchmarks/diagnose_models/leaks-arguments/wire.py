"""A closure halves the rate of a default argument, which is shared by all tasks."""

import json
import random

DEFAULT = {"rate": 0.8}


def wire(entrypoint, params, seed, state=DEFAULT):
    if params.get("close"):
        state["rate"] *= 0.5
    rng = random.Random(seed)
    return {"cases": json.dumps(sum(rng.random() < state["rate"] for _ in range(200))).encode()}
