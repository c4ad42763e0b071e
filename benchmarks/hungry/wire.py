"""The bundle of benchmarks/incident.py: a model that fills `megabytes` and holds them for `seconds`."""

import time

PIECE_BYTES = 10_000_000  # models grow bit by bit


def hold(megabytes, seconds):
    held = [bytearray(b"x") * PIECE_BYTES for _ in range(0, megabytes, 10)]
    time.sleep(seconds)
    return len(held)


def wire(entrypoint, params, seed):  # noqa: ARG001
    return {"y": str(hold(params["megabytes"], params["seconds"])).encode()}
