"""A model whose tasks leave things behind: {"left": their names, "found": those that were there already}.

A name in LEFT is a function that leaves one thing, and FOUND has how to tell that it is there. What must
stay the same from task to task is read at import, which each of them has behind it.
"""
# ruff: noqa: ARG001, ARG005

import importlib.metadata
import os
import random
import string
import sysconfig
import tempfile
import threading
from functools import cache, cached_property
from pathlib import Path

LEFT, FOUND = {}, {}


def leaves(name, found):
    """Register a function(seed) that leaves `name` behind; found(seed) is whether a task has it already."""

    def register(leave):
        LEFT[name], FOUND[name] = leave, found
        return leave

    return register


def wire(entrypoint, params, seed):
    found = [name for name, is_there in FOUND.items() if is_there(seed)]
    for leave in LEFT.values():
        leave(seed)
    return {"left": "\n".join(LEFT), "found": "\n".join(found)}


COUNTED = 0


@leaves("a global variable", lambda seed: COUNTED > 0)
def _(seed):
    global COUNTED
    COUNTED += 1


class Model:
    settings = []  # noqa: RUF012 (shared by all, as meant)

    @staticmethod
    @cache
    def table():
        return []

    @cached_property
    def network(self):
        return []


MODEL = Model()


@leaves("an attribute of a class", lambda seed: Model.settings)
def _(seed):
    Model.settings.append(seed)


@leaves("a cached function of a class", lambda seed: Model.table())
def _(seed):
    Model.table().append(seed)


@leaves("a cached property", lambda seed: MODEL.network)
def _(seed):
    MODEL.network.append(seed)


@leaves("a changed module", lambda seed: hasattr(string, "left"))
def _(seed):
    string.left = seed


@leaves("an environment variable", lambda seed: "LEFT" in os.environ)
def _(seed):
    os.environ["LEFT"] = str(seed)


HOME = Path.cwd()


@leaves("the working directory", lambda seed: Path.cwd() != HOME)
def _(seed):
    os.chdir("/")


@leaves("the state of `random`", lambda seed: random.getstate() != random.Random(seed).getstate())
def _(seed):
    random.random()


OWN = random.Random(7)
START = OWN.getstate()


@leaves("the state of a generator of its own", lambda seed: OWN.getstate() != START)
def _(seed):
    OWN.random()


@leaves("a thread", lambda seed: "left" in {thread.name for thread in threading.enumerate()})
def _(seed):
    threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()


@leaves(
    "an open descriptor",
    lambda seed: "/dev/full" in {str(path.resolve()) for path in Path("/proc/self/fd").iterdir()},
)
def _(seed):
    os.open("/dev/full", os.O_RDONLY)


TEMPORARY = Path(tempfile.gettempdir(), "left-behind")


@leaves("a temporary file", lambda seed: TEMPORARY.exists())
def _(seed):
    TEMPORARY.touch()


OWN_FOLDER = Path(__file__).parent


@leaves("a new file beside the model", lambda seed: (OWN_FOLDER / "left-behind.csv").exists())
def _(seed):
    (OWN_FOLDER / "left-behind.csv").write_text(str(seed))


@leaves("a changed file of the model", lambda seed: (OWN_FOLDER / "last_run.csv").read_text() != "seed\n")
def _(seed):
    with (OWN_FOLDER / "last_run.csv").open("a") as file:
        file.write(f"{seed}\n")


PACKAGE = Path(sysconfig.get_path("purelib"), "left_behind-1.0.dist-info")


@leaves("an installed package", lambda seed: any(importlib.metadata.distributions(name="left-behind")))
def _(seed):
    PACKAGE.mkdir(exist_ok=True)
    (PACKAGE / "METADATA").write_text("Metadata-Version: 2.1\nName: left-behind\nVersion: 1.0\n")
