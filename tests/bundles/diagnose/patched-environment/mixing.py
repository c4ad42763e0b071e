"""Mixing between districts, with contact rates from a package of its own."""

import json
import random

from contacts import RATE


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    met = sum(rng.random() < RATE * params["scale"] for _ in range(1000))
    return {"mixing": json.dumps({"met": met}).encode()}
