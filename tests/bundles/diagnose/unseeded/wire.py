"""Contact tracing. Infections come from the task's seed; who is traced comes from a generator without one."""

import json
import random


def wire(entrypoint, params, seed):
    rng, tracing = random.Random(seed), random.Random()
    infected = sum(rng.random() < 0.2 for _ in range(params["contacts"]))
    traced = sum(tracing.random() < params["coverage"] for _ in range(infected))
    return {"tracing": json.dumps({"infected": infected, "traced": traced}).encode()}
