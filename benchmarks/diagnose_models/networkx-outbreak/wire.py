"""An outbreak on a small-world network (NetworkX)."""

import json
import random

import networkx


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    network = networkx.watts_strogatz_graph(params["people"], 6, 0.1, seed=seed)
    infected, recovered = {0}, set()
    days = 0
    while infected:
        new = set()
        for person in sorted(infected):
            for other in network.neighbors(person):
                if other not in infected | recovered and rng.random() < params["beta"]:
                    new.add(other)
        recovered |= infected
        infected = new - recovered
        days += 1
    return {"outbreak": json.dumps({"days": days, "reached": len(recovered)}).encode()}
