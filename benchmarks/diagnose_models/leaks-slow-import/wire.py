"""Three seconds of import, and a setting that stays."""

import json
import random
import time

time.sleep(3)
SETTINGS = {"decay": 0.5}


def wire(entrypoint, params, seed):
    if "decay" in params:
        SETTINGS["decay"] = params["decay"]
    rng = random.Random(seed)
    return {"level": json.dumps(sum(rng.random() < SETTINGS["decay"] for _ in range(200))).encode()}
