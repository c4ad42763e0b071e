"""A model whose results depend on what a process has once: seeds of hashes and generators, native threads."""

import os
import random

import numpy

PLACES = {"Bahir Dar", "Gondar", "Jimma", "Hawassa", "Mekelle", "Harar"}


def wire(entrypoint, params, seed):
    route = "|".join(place for place in PLACES)
    drawn = [random.random(), random.gauss(0, 1), *numpy.random.random(2).tolist()]
    visited = random.sample(route.split("|"), params["visits"])
    return {"route": route, "drawn": repr((drawn, visited)), "threads": os.environ["OMP_NUM_THREADS"]}
