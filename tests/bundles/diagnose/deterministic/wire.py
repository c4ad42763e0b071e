"""A logistic epidemic in discrete time. Nothing is random, and the study says so."""

import json


def wire(entrypoint, params, seed):
    infected, course = 1.0, []
    for _ in range(100):
        infected += params["beta"] * infected * (1 - infected / params["people"])
        course.append(infected)
    return {"course": json.dumps(course).encode()}
