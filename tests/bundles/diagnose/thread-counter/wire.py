"""Queues at a clinic. Every run begins with empty counters of the module: right, while one runs at a time."""

import json
import random

COUNTERS = {}


def wire(entrypoint, params, seed):
    COUNTERS.update(waiting=0, served=0, turned_away=0)
    rng = random.Random(seed)
    for _ in range(params["minutes"]):
        arrive(rng.random() < params["arrivals"])
        serve(rng.random() < 0.5)
    return {"queue": json.dumps(COUNTERS).encode()}


def arrive(someone):
    if someone and COUNTERS["waiting"] >= 20:
        COUNTERS["turned_away"] += 1
    elif someone:
        COUNTERS["waiting"] += 1


def serve(free):
    if free and COUNTERS["waiting"]:
        COUNTERS["waiting"] -= 1
        COUNTERS["served"] += 1
