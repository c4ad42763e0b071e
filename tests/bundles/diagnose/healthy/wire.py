"""A chain-binomial epidemic. Nothing carries over, although much looks like it: a cache, scratch files, the
clock in prints, a buffer that is kept.
"""

import json
import random
import tempfile
import time
from functools import lru_cache
from pathlib import Path

BUFFER = bytearray()  # grows once, then serves all runs


@lru_cache(maxsize=32)
def contacts(groups, decay):
    """Contact rates between age groups: by all that decides them."""
    return tuple(tuple(decay ** abs(a - b) for b in range(groups)) for a in range(groups))


def wire(entrypoint, params, seed):
    print(f"{time.strftime('%H:%M:%S')} {entrypoint} with seed {seed}")
    rng = random.Random(seed)
    rates = contacts(params["groups"], 0.5)
    susceptible, infected = [200] * params["groups"], [2] * params["groups"]
    if len(BUFFER) < 4_000_000:
        BUFFER.extend(bytes(4_000_000 - len(BUFFER)))
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder, "days.txt")
        with spool.open("w") as days:
            for _ in range(20):
                new = [
                    infections(rng, susceptible[g], rates[g], infected, params["beta"])
                    for g in range(len(rates))
                ]
                susceptible = [s - n for s, n in zip(susceptible, new, strict=True)]
                infected = [n + i // 2 for n, i in zip(new, infected, strict=True)]
                days.write(f"{sum(new)}\n")
        curve = [int(line) for line in spool.read_text().split()]
    return {"curve": json.dumps(curve).encode(), "total": json.dumps({"cases": sum(curve)}).encode()}


def infections(rng, susceptible, rates, infected, beta):
    force = beta * sum(rate * count for rate, count in zip(rates, infected, strict=True)) / 150
    return sum(rng.random() < force for _ in range(susceptible))
