"""A model that takes three seconds to import, as agent-based frameworks do."""

import json
import random
import time

time.sleep(3)


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    return {"cases": json.dumps(sum(rng.random() < params["rate"] for _ in range(500))).encode()}
