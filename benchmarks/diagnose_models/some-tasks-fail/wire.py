"""Parameters that are out of bounds raise, everywhere alike."""

import json
import random


def wire(entrypoint, params, seed):
    if params["rate"] > 1:
        raise ValueError(f"rate {params['rate']} is no probability")
    rng = random.Random(seed)
    return {"cases": json.dumps(sum(rng.random() < params["rate"] for _ in range(100))).encode()}
