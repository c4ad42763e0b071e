"""Percolation on a random network (igraph)."""

import json
import random

import igraph


def wire(entrypoint, params, seed):
    rng, nodes = random.Random(seed), range(params["nodes"])
    network = igraph.Graph(
        len(nodes), [(rng.choice(nodes), rng.choice(nodes)) for _ in range(2 * len(nodes))]
    )
    network.delete_vertices(rng.sample(nodes, int(params["share"] * len(nodes))))
    return {"largest": json.dumps({"size": max(network.connected_components().sizes())}).encode()}
