"""Hospital demand, with a note of when it was computed: in the result itself."""

import json
import random
from datetime import UTC, datetime


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    stays = [rng.expovariate(1 / params["days"]) for _ in range(200)]
    demand = {"mean_stay": sum(stays) / len(stays), "longest": max(stays)}
    return {"demand": json.dumps({**demand, "computed": datetime.now(UTC).isoformat()}).encode()}
