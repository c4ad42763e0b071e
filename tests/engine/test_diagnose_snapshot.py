"""What tasks leave in a process: found wherever Python can see it, and which of it decides a later result."""

import pytest

from modelops_dask.diagnose.trials.probe import ProbeRequest
from probe_helpers import probed, said

CHANGES = ProbeRequest(changes=True)
HEAD = "import collections, functools, itertools, os, random, sys\n"

# What a model keeps, its task (`y` is the result), and what must be said of it.
LEFT = {
    "a global": ("n = 0", "global n; n += 1; y = n", "module wire: n: 0 -> 1"),
    "a global that was not there": (
        "",
        "global first; first = globals().get('first', seed); y = first",
        "module wire: first: absent -> 1",
    ),
    "a cache without the seed": (
        "cache = {}",
        "y = cache.setdefault(params['beta'], seed)",
        "module wire: cache: {} -> {0.1: 1}",
    ),
    "lru_cache": (
        "now = []\n@functools.lru_cache(maxsize=None)\ndef f(beta): return now[0]",
        "now[:] = [seed]; y = f(params['beta'])",
        "module wire: f: 0 cached -> 1 cached",
    ),
    "a default argument": (
        "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)",
        "y = f(seed)",
        "module wire: f(seen=): [] -> [1]",
    ),
    "a class attribute": (
        "class Sim:\n    agents = []",
        "Sim().agents.append(seed); y = len(Sim.agents)",
        "module wire: Sim.agents: [] -> [1]",
    ),
    "a count on a class": (
        "class Sim:\n    runs = 0",
        "Sim.runs += 1; y = Sim.runs",
        "module wire: Sim.runs: 0 -> 1",
    ),
    "an attribute of a function": (
        "def f(): pass",
        "f.n = getattr(f, 'n', 0) + 1; y = f.n",
        "module wire: f.n: absent -> 1",
    ),
    "a closure": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return f\nf = make()",
        "y = f()",
        "module wire: f{n}: 0 -> 1",
    ),
    "slots": (
        "class M:\n    __slots__ = ('n',)\nm = M()\nm.n = 0",
        "m.n += 1; y = m.n",
        "module wire: m.n: 0 -> 1",
    ),
    "deep inside": (
        "state = {'a': {'b': [1, 2, {'c': 0}]}}",
        "state['a']['b'][2]['c'] += 1; y = state",
        "module wire: state['a']['b'][2]: {'c': 0} -> {'c': 1}",
    ),
    "a counter": ("c = itertools.count()", "y = next(c)", "module wire: c: count(0) -> count(1)"),
    "a generator of its own": ("rng = random.Random(3)", "y = rng.random()", "module wire: rng: state "),
    "the global generator": ("random.seed(3)", "y = random.random()", "random: global state: state "),
    "NumPy's global generator": (
        "import numpy\nnumpy.random.seed(3)",
        "y = numpy.random.rand()",
        "numpy.random: global state: state ",
    ),
    "default_rng": (
        "import numpy\nrng = numpy.random.default_rng(3)",
        "y = rng.random()",
        "module wire: rng: state ",
    ),
    "an array": (
        "import numpy\nbuffer = numpy.zeros(3)",
        "buffer[0] += 1; y = buffer.sum()",
        "module wire: buffer: array float64 (3,) [0.0, 0.0, 0.0] -> array float64 (3,) [1.0, 0.0, 0.0]",
    ),
    "errstate": (
        "import numpy",
        "y = numpy.geterr(); numpy.seterr(over='raise')",
        "numpy.errstate: over: 'warn' -> 'raise'",
    ),
    "printoptions": (
        "import numpy",
        "y = str(numpy.array([1 / 3])); numpy.set_printoptions(precision=3)",
        "numpy.printoptions: precision: 8 -> 3",
    ),
    "the folder": ("", "y = os.getcwd(); os.chdir('/')", "cwd: "),
    "a variable": (
        "",
        "y = os.environ.get('SCALE'); os.environ['SCALE'] = 'x'",
        "os.environ: SCALE: absent -> 'x'",
    ),
    "sys.path": ("", "y = '/x' in sys.path; sys.path.insert(0, '/x')", "sys.path: "),
    "warning filters": (
        "import warnings",
        "y = len(warnings.filters); warnings.simplefilter('error', ResourceWarning)",
        "warnings.filters: ",
    ),
    "a handler of a logger": (
        "import logging\nlog = logging.getLogger('model')",
        "y = len(log.handlers); log.addHandler(logging.NullHandler())",
        "loggers: model: absent -> (0, [<NullHandler>], True, False)",
    ),
    "the decimal context": (
        "import decimal",
        "y = decimal.Decimal(1) / 3; decimal.getcontext().prec = 5",
        "decimal context: prec: 28 -> 5",
    ),
    "a module loaded late": (
        "",
        "import late; late.kept.append(1); y = len(late.kept)",
        "module late: kept: [] -> [1]",
    ),
    "a replaced function": (
        "import math",
        "y = math.exp(1); math.exp = abs",
        "module math: exp: function exp -> function abs",
    ),
}


@pytest.mark.parametrize("left", LEFT)
def test_what_a_task_leaves_is_found_and_decides(tmp_path, left):
    head, task, expected = LEFT[left]
    wire = f"{HEAD}{head}\ndef wire(entrypoint, params, seed):\n    {task}\n    return {{'y': str(y)}}\n"
    found = probed(tmp_path, wire, ask=CHANGES, late="kept = []")
    assert [answer.status for answer in found.answers] == ["ok", "ok"], said(found)
    told = [str(change) for change in found.changes]
    assert len(told) == 1 and told[0].startswith(expected), (told, said(found))
    assert found.changes[0].decides is True


def test_two_changes_that_decide_together_are_both_named_and_others_are_not(tmp_path):
    found = probed(
        tmp_path,
        """
        a, b, c = [], [], []

        def wire(entrypoint, params, seed):
            y = 10 * len(a) + len(b)
            for each in (a, b, c):
                each.append(seed)
            return {"y": str(y)}
        """,
        ask=CHANGES,
    )
    assert [str(change) for change in found.changes] == [
        "module wire: a: [] -> [1]",
        "module wire: b: [] -> [1]",
    ], said(found)


def test_what_changes_without_effect_is_told_but_does_not_decide(tmp_path):
    found = probed(
        tmp_path,
        """
        seen = []

        def wire(entrypoint, params, seed):
            seen.append(seed)
            return {"y": str(seed)}
        """,
        ask=CHANGES,
    )
    assert [(str(change), change.decides) for change in found.changes] == [
        ("module wire: seen: [] -> [1]", None)
    ]


def test_state_in_native_code_is_named_by_its_library(tmp_path):
    found = probed(
        tmp_path,
        """
        import ctypes

        libc = ctypes.CDLL(None)

        def wire(entrypoint, params, seed):
            return {"y": str(libc.rand())}
        """,
        ask=CHANGES,
    )
    assert "native code: module wire: libc: the C library, calling rand" in map(str, found.changes)


def test_a_file_is_put_back_to_try_and_left_as_the_tasks_left_it(tmp_path):
    kept = tmp_path / "kept.txt"
    found = probed(
        tmp_path,
        f"""
        import os

        def wire(entrypoint, params, seed):
            y = os.path.exists({str(kept)!r})
            with open({str(kept)!r}, "w") as file:
                file.write(str(seed))
            return {{"y": str(y)}}
        """,
        ask=CHANGES,
    )
    assert [(str(change), change.decides) for change in found.changes] == [
        (f"file: {kept}: absent -> 1 bytes", True)
    ], said(found)
    assert [answer.outputs for answer in found.answers] == [{"y": b"False"}, {"y": b"True"}]
    assert kept.read_text() == "2"


def test_values_of_secrets_are_not_shown(tmp_path):
    found = probed(
        tmp_path,
        """
        import os

        def wire(entrypoint, params, seed):
            y = os.environ.get("API_TOKEN")
            os.environ["API_TOKEN"] = "hush-hush"
            return {"y": str(y)}
        """,
        ask=CHANGES,
    )
    assert [str(change) for change in found.changes] == ["os.environ: API_TOKEN: absent -> (not shown)"]


def test_no_code_of_the_model_is_run_by_looking_at_its_objects(tmp_path):
    found = probed(
        tmp_path,
        """
        class Touchy:
            def refuse(self, *_):
                raise SystemExit("touched")

            __repr__ = __eq__ = __getattribute__ = __len__ = __iter__ = __bool__ = __reduce_ex__ = refuse
            __hash__ = None

        class Listlike(list):
            __iter__ = __len__ = __getitem__ = __eq__ = Touchy.refuse

        kept = [Touchy()]
        other = Listlike()

        def wire(entrypoint, params, seed):
            kept.append(Touchy())
            list.append(other, seed)
            return {"y": str(len(kept))}
        """,
        ask=CHANGES,
    )
    assert [answer.outputs for answer in found.answers] == [{"y": b"2"}, {"y": b"3"}], said(found)
    assert [str(change) for change in found.changes] == [
        "module wire: kept: [<Touchy>] -> [<Touchy>, <Touchy>]"
    ]


def test_looking_leaves_the_process_as_it_was(tmp_path):
    wire = """
        import random

        calls = []
        rng = random.Random(1)
        random.seed(1)

        def wire(entrypoint, params, seed):
            calls.append(seed)
            return {"y": str((calls, rng.random(), random.random()))}
    """
    plain = probed(tmp_path, wire, seeds=(1, 2, 3))
    looked = probed(tmp_path, wire, seeds=(1, 2, 3), ask=CHANGES)
    assert [one.outputs for one in plain.answers] == [one.outputs for one in looked.answers]
    assert looked.changes
