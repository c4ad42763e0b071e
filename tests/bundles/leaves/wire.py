"""A model whose tasks leave things behind, and say what they find: {"found": the names, "pid": …}."""
# ruff: noqa: ARG001

import json
import os
import random
import string
from functools import cache
from pathlib import Path

COUNT = 0
OWN = random.Random(7)  # a generator of the module's own: nobody reseeds it
FIRST_DRAW = random.Random(7).random()
HOME = Path.cwd()


class Model:
    settings = []  # noqa: RUF012 (shared by all, as meant)

    @staticmethod
    @cache
    def table():
        return []


def wire(entrypoint, params, seed):
    global COUNT
    found = {
        "global": COUNT > 0,
        "mutated module": hasattr(string, "left"),
        "environment variable": "LEFT" in os.environ,
        "working directory": Path.cwd() != HOME,
        "generator": OWN.random() != FIRST_DRAW,
        "open descriptor": "/dev/full" in descriptors(),
        "class": bool(Model.settings),
        "cached value": bool(Model.table()),
    }
    COUNT += 1
    string.left = 1
    os.environ["LEFT"] = "1"
    os.chdir("/")
    os.open("/dev/full", os.O_RDONLY)
    Model.settings.append(seed)
    Model.table().append(seed)
    return {"found": json.dumps(sorted(name for name, was in found.items() if was))}


def descriptors():
    return [str(path.resolve()) for path in Path("/proc/self/fd").iterdir()]
