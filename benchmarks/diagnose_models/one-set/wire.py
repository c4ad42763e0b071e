"""Many replicates of one set, and an output that is the seed."""

import json
import random


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    metadata = json.dumps({"seed": seed, "model": "walk"}).encode()
    return {"walk": json.dumps(sum(rng.choice((-1, 1)) for _ in range(100))).encode(), "metadata": metadata}
