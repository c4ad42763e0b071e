"""A model whose tasks leave things behind: {"left": their names, "found": those that were there already}.

A name in LEFT is a function that leaves one thing, and FOUND has how to tell that it is there. What must
stay the same from task to task is read at import, which each of them has behind it.
"""
# ruff: noqa: ARG001, ARG005

import atexit
import builtins
import contextvars
import copyreg
import csv
import ctypes
import decimal
import gc
import importlib.metadata
import importlib.util
import json
import locale
import logging
import os
import random
import resource
import signal
import socket
import string
import sys
import sysconfig
import tempfile
import threading
import time
import types
import warnings
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

LEFT, FOUND = {}, {}


def leaves(name, found):
    """Register a function(seed) that leaves `name` behind; found(seed) is whether a task has it already.

    `KIND: NAME` is one of several things of a kind, which are found all or none.
    """

    def register(leave):
        LEFT[name], FOUND[name] = leave, found
        return leave

    return register


def wire(entrypoint, params, seed):
    """Leave all that there is to leave, or only what the parameter `leaves` names."""
    names = [params["leaves"]] if "leaves" in params else list(LEFT)
    found = [name for name in names if FOUND[name](seed)]
    returned = [LEFT[name](seed) for name in names]
    drawn = [value for value in returned if isinstance(value, tuple)]
    asked = repr(params)
    wreck(params)
    return {"left": "\n".join(names), "found": "\n".join(found), "drawn": repr(drawn), "params": asked}


def wreck(value):
    """Change parameters in place, nested ones too."""
    for item in list(value.values() if isinstance(value, dict) else value):
        if isinstance(item, dict | list):
            wreck(item)
    if isinstance(value, dict):
        for name in list(value):
            value[f"{name}?"] = value.pop(name)
    else:
        value.reverse()
        value.append("left behind")


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
    return random.random(), random.gauss(0, 1)


def has_numpy():
    return importlib.util.find_spec("numpy") is not None


if has_numpy():  # imported by the task, for that may be a task's first import of it

    def numpy_is_seeded(seed):
        import numpy

        own = numpy.random.RandomState(seed if seed < 1 << 32 else [seed & 0xFFFFFFFF, seed >> 32])
        return repr(own.get_state()) == repr(numpy.random.get_state())

    @leaves("the state of `random`: NumPy's", lambda seed: not numpy_is_seeded(seed))
    def _(seed):
        import numpy

        return numpy.random.random(2).tolist(), numpy.random.normal()


OWN, OWN_LEFT = random.Random(7), {}


@leaves("the state of a generator of its own", lambda seed: OWN.getstate() == OWN_LEFT.get("state"))
def _(seed):
    drawn = OWN.random()
    OWN_LEFT["state"] = OWN.getstate()
    return (drawn,)


C = ctypes.CDLL(None)
C.seed48.restype, C.drand48.restype = ctypes.POINTER(ctypes.c_ushort), ctypes.c_double
C.srand48(7)


def read_c_state():
    words = ctypes.c_ushort * 3
    state = C.seed48(words())[:3]
    C.seed48(words(*state))
    return state


C_START = read_c_state()


@leaves("the state of a C library's generator", lambda seed: read_c_state() != C_START)
def _(seed):
    return (C.drand48(),)


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


# Other state of a process: what it is at import, and a change of it. All of it stays or none.

OTHER = "other state of its process"


def leaves_state(name, state, change):
    """Register a state that is a value: state() tells it, change(seed) changes it for good."""
    start = state()
    leaves(f"{OTHER}: {name}", lambda seed: state() != start)(change)


def default(seed, seen=[]):  # noqa: B006 (what it is about)
    seen += [seed]


def umask():
    os.umask(before := os.umask(0o022))
    return before


def pickle_models(seed):
    copyreg.pickle(Model, lambda model: (Model, ()))


VARIABLE = contextvars.ContextVar("left", default=None)
FILE_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)


def change_limit(seed):
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILE_LIMIT[0] - 1, FILE_LIMIT[1]))


def change_precision(seed):
    decimal.getcontext().prec = 5


def change_time_zone(seed):
    os.environ["TZ"] = "XYZ-5"
    time.tzset()
    del os.environ["TZ"]


def change_handler(seed):
    with suppress(ValueError):  # not in the main thread: then nobody can
        signal.signal(signal.SIGUSR2, lambda number, frame: None)


def stub_module(seed):
    sys.modules["left_behind"] = types.ModuleType("left_behind")


def patch_builtin(seed):
    builtins.left_behind = seed


def patch_library(seed):
    json.JSONDecoder.left_behind = seed


def replace_hook(seed):
    sys.excepthook = print


leaves_state("a default argument", lambda: str(default.__defaults__), default)
leaves_state("a builtin", lambda: hasattr(builtins, "left_behind"), patch_builtin)
leaves_state("a class of the library", lambda: hasattr(json.JSONDecoder, "left_behind"), patch_library)
leaves_state(
    "`sys.path`", lambda: "/left-behind" in sys.path, lambda seed: sys.path.insert(0, "/left-behind")
)
leaves_state("`sys.modules`", lambda: "left_behind" in sys.modules, stub_module)
leaves_state("a hook", lambda: sys.excepthook, replace_hook)
leaves_state("a context variable", VARIABLE.get, VARIABLE.set)
leaves_state(
    "warnings filters",
    lambda: any(entry[2] is ResourceWarning and entry[0] == "error" for entry in warnings.filters),
    lambda seed: warnings.simplefilter("error", ResourceWarning),
)
leaves_state("the decimal context", lambda: decimal.getcontext().prec, change_precision)
leaves_state(
    "the locale",
    lambda: locale.setlocale(locale.LC_TIME),
    lambda seed: locale.setlocale(locale.LC_TIME, "C.UTF-8"),
)
leaves_state("the time zone", lambda: time.timezone, change_time_zone)
leaves_state("a signal handler", lambda: signal.getsignal(signal.SIGUSR2), change_handler)
leaves_state("the umask", umask, lambda seed: os.umask(0o027))
leaves_state("a limit of resources", lambda: resource.getrlimit(resource.RLIMIT_NOFILE), change_limit)
leaves_state("the recursion limit", sys.getrecursionlimit, lambda seed: sys.setrecursionlimit(4321))
leaves_state("the switch interval", sys.getswitchinterval, lambda seed: sys.setswitchinterval(0.004))
leaves_state(
    "the digits of numbers", sys.get_int_max_str_digits, lambda seed: sys.set_int_max_str_digits(999)
)
leaves_state("the garbage collector", lambda: (gc.isenabled(), gc.get_threshold()), lambda seed: gc.disable())
leaves_state("a handler of exits", atexit._ncallbacks, lambda seed: atexit.register(int))
leaves_state("the timeout of sockets", socket.getdefaulttimeout, lambda seed: socket.setdefaulttimeout(600))
leaves_state("the logging level", logging.root.getEffectiveLevel, lambda seed: logging.root.setLevel(42))
leaves_state("a dialect of CSV", csv.list_dialects, lambda seed: csv.register_dialect("left", delimiter=";"))
leaves_state("how an object is pickled", lambda: Model in copyreg.dispatch_table, pickle_models)

if has_numpy():

    def numpy_errors(seed):
        import numpy

        return numpy.geterr()["over"] == "ignore"

    @leaves(f"{OTHER}: how NumPy treats errors", numpy_errors)
    def _(seed):
        import numpy

        numpy.seterr(over="ignore")
