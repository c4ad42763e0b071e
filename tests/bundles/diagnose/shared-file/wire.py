"""A transmission tree, handed from step to step in a file: one name for all who run on the machine."""

import json
import os
import random
import time
from pathlib import Path

HANDOVER = Path(f"/tmp/transmission-tree-{os.getuid()}.txt")


def wire(entrypoint, params, seed):
    rng = random.Random(seed)
    HANDOVER.write_text("".join(f"{rng.randrange(case)}\n" for case in range(1, params["cases"])))
    time.sleep(0.01)  # what a program of another language takes to start
    parents = [int(line) for line in HANDOVER.read_text().split()]
    children = [parents.count(case) for case in range(params["cases"])]
    return {
        "tree": json.dumps({"most": max(children), "cases": len(parents), "none": children.count(0)}).encode()
    }
