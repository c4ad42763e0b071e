"""A search for the best allocation that stops itself: by a signal, which only a main thread may ask for."""

import json
import random
import signal


def wire(entrypoint, params, seed):
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    rng = random.Random(seed)
    best = max(sum(rng.random() for _ in range(params["doses"])) for _ in range(100))
    signal.alarm(0)
    return {"best": json.dumps(best).encode()}


def give_up(number, frame):
    raise TimeoutError("the search took more than a minute")
