"""A script that reproduces a polluter's effect with only the bundle's folder and interpreter.

    bundle, wire reference, calls -> text of a Python program that exits 1 when the victim's results differ

The script is not run or written here.
"""

from collections.abc import Sequence
from pathlib import Path
from pprint import pformat

from modelops_dask.executors.process import HASH_SEED, THREAD_VARIABLES, Call

PROGRAM = '''\
"""A task's result depends on the tasks that ran before it in the same process.

Runs the victim alone in one new process, and after its polluters in another. Exit status 0: the same result
both times; 1: another one, or no end of the process; 2: the victim's process ends badly also without them.
Run it with the Python that has the bundle's
packages:

    python THIS_FILE [BUNDLE]
"""

import hashlib
import os
import re
import subprocess
import sys

BUNDLE = %(bundle)s
POLLUTERS = %(polluters)s
VICTIM = %(victim)s
FIXED = %(fixed)s
ENDED = "the process ended with status"


def load(bundle):
    """The bundle's wire function, or one that calls the model's function."""
    sys.path[:0] = [os.path.join(bundle, "src"), bundle]
%(load)s


def run(bundle, with_polluters):
    """In a new process: the result of the victim, on separate lines at the end."""
    wire = load(bundle)
    for task in POLLUTERS if with_polluters else []:
        attempt(wire, task)
    print("\\n-- result")
    for line in attempt(wire, VICTIM):
        print(line)


def attempt(wire, task):
    try:
        outputs = wire(*task)
    except Exception as error:
        return [type(error).__name__]
    return [show(name, data) for name, data in sorted(outputs.items())]


def show(name, data):
    data = data if isinstance(data, (bytes, bytearray, memoryview)) else words(data).encode()
    data = bytes(data)
    text = repr(data[:60]) if len(data) <= 60 else "%%d bytes" %% len(data)
    return "%%s: %%s  sha256 %%s" %% (name, text, hashlib.sha256(data).hexdigest()[:16])


def words(value):
    """All of a value in words; no addresses, which are others in each process."""
    if isinstance(value, str):
        return value
    for way in ("to_csv", "write_csv", "to_pydict", "tolist", "to_dict"):
        if hasattr(value, way):
            return repr(getattr(value, way)())
    if "numpy" in sys.modules:
        sys.modules["numpy"].set_printoptions(threshold=sys.maxsize)
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def started(bundle, how):
    """The result that a new process prints."""
    done = subprocess.run(
        [sys.executable, "-s", os.path.abspath(__file__), bundle, how],
        cwd=bundle,
        env=dict(os.environ, **FIXED),
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    if done.returncode:
        return "%%s %%d\\n" %% (ENDED, done.returncode)
    return done.stdout.rpartition("-- result\\n")[2]


def main(bundle=BUNDLE, how=""):
    bundle = os.path.abspath(bundle)
    if how:
        return run(bundle, how == "polluted")
    alone, polluted = started(bundle, "alone"), started(bundle, "polluted")
    print("victim:", VICTIM)
    print("alone in a new process:\\n" + alone)
    print("after", *POLLUTERS, "in the same process:\\n" + polluted)
    print("the results differ" if alone != polluted else "the results are the same")
    return 2 if alone.startswith(ENDED) else int(alone != polluted)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
'''

MODULE = """\
    import importlib
    from functools import reduce

    return reduce(getattr, {names!r}.split("."), importlib.import_module({module!r}))"""
FILE = """\
    import importlib.util
    from functools import reduce

    spec = importlib.util.spec_from_file_location("bundle_wire", os.path.join(bundle, {file!r}))
    module = sys.modules["bundle_wire"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return reduce(getattr, {names!r}.split("."), module)"""
COMMAND = """\
    import json
    import re

    program = json.loads({program!r})

    def text(value):
        return value if isinstance(value, str) else json.dumps(value)

    def wire(entrypoint, params, seed):
        values = {{name: text(value) for name, value in params.items()}}
        values.update(
            seed=str(seed),
            scenario=entrypoint.partition("/")[2],
            threads=os.environ["OMP_NUM_THREADS"],
            parameters_file=program.get("parameters_file", ""),
        )

        def fill(template):
            token = r"\\{{\\{{|\\}}\\}}|\\{{([^{{}}]*)\\}}"
            return re.sub(token, lambda match: values[match[1]] if match[1] else match[0][0], template)

        files = {{name: fill(output["file"]) for name, output in program["outputs"].items()}}
        for path in [*files.values(), values["parameters_file"]]:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if values["parameters_file"]:
            with open(values["parameters_file"], "w") as file:
                json.dump(params, file)
        environment = {{name: fill(value) for name, value in program.get("environment", {{}}).items()}}
        command = [fill(argument) for argument in program["command"]]
        done = subprocess.run(command, env=dict(os.environ, **environment), stdout=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError("exit status %d" % done.returncode)
        outputs = {{}}
        for name, path in files.items():
            outputs[name] = done.stdout if path == "-" else open(path, "rb").read()
        return outputs

    return wire"""
INSTALLED = """\
    from importlib.metadata import entry_points

    points = entry_points()
    group = "modelops.wire"
    (found,) = points.select(group=group) if hasattr(points, "select") else points[group]
    return found.load()"""
# As executors/functions.py calls it. Results are compared by their text, which needs no code of ours.
FUNCTION = """\
    import importlib
    import inspect
    from importlib.metadata import entry_points

    points = entry_points()
    group = "modelops.wire"
    installed = points.select(group=group) if hasattr(points, "select") else points.get(group, ())
    for point in installed:
        return point.load()
    names = {path!r}.split(".")
    for count in range(len(names) - 1, 0, -1):
        try:
            function = importlib.import_module(".".join(names[:count]))
            break
        except ModuleNotFoundError:
            if count == 1:
                raise
    for name in names[count:]:
        function = getattr(function, name)
    parameters = inspect.signature(function).parameters

    def wire(entrypoint, params, seed):
        params = dict(params)
        if "seed" in parameters:
            params["seed"] = seed
        if "scenario" in parameters:
            params["scenario"] = entrypoint.rpartition("/")[2]
        if "rng" in parameters:
            from numpy.random import default_rng

            params["rng"] = default_rng(seed)
        first = [each for each in parameters.values() if each.kind is each.POSITIONAL_ONLY]
        positional = [params.pop(each.name, each.default) for each in first]
        value = function(*positional, **params)
        value = list(value) if inspect.isgenerator(value) else value
        return value if isinstance(value, dict) else {{"result": value}}

    return wire"""


def render_script(bundle: Path, wire: str, polluters: Sequence[Call], victim: Call, threads: int = 0) -> str:
    """The program: the victim alone in one new process, after its polluters in another, both printed.

    wire is the result of executors.wire.find_wire for the bundle; threads of native code, 0 for one.
    """
    fixed = dict.fromkeys(THREAD_VARIABLES, str(threads or 1)) | {"PYTHONHASHSEED": HASH_SEED}
    return PROGRAM % {
        "bundle": repr(str(bundle)),
        "polluters": _format_literal([tuple(call) for call in polluters]),
        "victim": _format_literal(tuple(victim)),
        "fixed": _format_literal(fixed),
        "load": _render_load(wire),
    }


def _format_literal(value: object) -> str:
    return pformat(value, width=100, sort_dicts=False)


def _render_load(wire: str) -> str:
    """Like runner.load_wire."""
    if wire.startswith("{"):
        return COMMAND.format(program=wire)
    target, _, names = wire.partition(":")
    if not target:
        return INSTALLED
    if wire.endswith("()"):
        return FUNCTION.format(path=wire[:-2])
    if not target.endswith(".py"):
        return MODULE.format(module=target, names=names)
    parts = target.removesuffix(".py").removeprefix("./").removeprefix("src/").split("/")
    if all(part.isidentifier() for part in parts):
        return MODULE.format(module=".".join(parts), names=names)
    return FILE.format(file=target, names=names)
