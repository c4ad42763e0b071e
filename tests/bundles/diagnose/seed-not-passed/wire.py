"""Waiting times at a clinic. The generator is made in each task, from a number and not from the seed."""

import json
import random


def wire(entrypoint, params, seed):
    rng = random.Random(42)
    waits = [rng.expovariate(params["rate"]) for _ in range(200)]
    return {
        "waits": json.dumps({"mean": sum(waits) / len(waits), "longest": max(waits)}).encode(),
        "metadata": json.dumps({"seed": seed, "rate": params["rate"]}).encode(),
    }
