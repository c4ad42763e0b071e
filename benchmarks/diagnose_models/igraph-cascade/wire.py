"""Percolation on a scale-free network (igraph, whose generator is Python's, seeded here in each task)."""

import json
import random

import igraph


def wire(entrypoint, params, seed):
    igraph.set_random_number_generator(random.Random(seed))
    network = igraph.Graph.Barabasi(params["nodes"], 2)
    rng = random.Random(seed)
    removed = rng.sample(range(params["nodes"]), int(params["share"] * params["nodes"]))
    network.delete_vertices(removed)
    return {"largest": json.dumps({"size": max(network.connected_components().sizes())}).encode()}
