"""Patients wait for one of several nurses (SimPy)."""

import json
import random

import simpy


def wire(entrypoint, params, seed):
    rng, waits = random.Random(seed), []
    clinic = simpy.Environment()
    nurses = simpy.Resource(clinic, params["nurses"])

    def patient():
        came = clinic.now
        with nurses.request() as turn:
            yield turn
            waits.append(clinic.now - came)
            yield clinic.timeout(rng.expovariate(1 / params["minutes"]))

    def door():
        while True:
            yield clinic.timeout(rng.expovariate(1 / 4))
            clinic.process(patient())

    clinic.process(door())
    clinic.run(until=480)
    return {"waits": json.dumps({"patients": len(waits), "mean": sum(waits) / len(waits)}).encode()}
