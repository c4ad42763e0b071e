"""Functions as their sources have them: what is read, what is missing, and what is left open."""

import inspect
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from executor_helpers import write_bundle
from modelops_dask.bundle import source
from modelops_dask.bundle.source import Absent, Definition
from modelops_dask.executors import functions
from modelops_dask.study.calls import _make_signature

PLAIN = "def f(a, b=1): pass\n"
# Files of a bundle, the path that is looked for, and what is known: "file:line kind", "absent OWNER" or None.
CASES = {
    "plain": ({"m.py": "x = 1\n" + PLAIN}, "m.f", "m.py:2 function"),
    "in src, before the bundle's own": ({"src/m.py": PLAIN, "m.py": ""}, "m.f", "src/m.py:1 function"),
    "in a package": ({"p/q/m.py": PLAIN}, "p.q.m.f", "p/q/m.py:1 function"),
    "in __init__": ({"p/__init__.py": PLAIN}, "p.f", "p/__init__.py:1 function"),
    "below if": ({"m.py": "if x:\n    def f(): pass"}, "m.f", "m.py:2 function"),
    "if and else": ({"m.py": "if x:\n    def f(): pass\nelse:\n    def f(a): pass"}, "m.f", None),
    "twice": ({"m.py": PLAIN + PLAIN}, "m.f", None),
    "bound again": ({"m.py": PLAIN + "f = g(f)"}, "m.f", None),
    "bound by a function": ({"m.py": PLAIN + "def g():\n    global f\n    f = 2"}, "m.f", None),
    "deleted": ({"m.py": PLAIN + "del f"}, "m.f", None),
    "overloads": (
        {"m.py": "@overload\ndef f(a: int): ...\n@typing.overload\ndef f(a: str): ...\n" + PLAIN},
        "m.f",
        "m.py:5 function",
    ),
    "cached": ({"m.py": "@functools.lru_cache(maxsize=3)\n" + PLAIN}, "m.f", "m.py:2 function"),
    "compiled": ({"m.py": "@numba.njit\n" + PLAIN}, "m.f", "m.py:2 function"),
    "another decorator": ({"m.py": "@swap\n" + PLAIN}, "m.f", None),
    "a command of click": ({"m.py": "@click.command()\n" + PLAIN}, "m.f", "m.py:2 command"),
    "a command of typer": ({"m.py": "@app.command()\n" + PLAIN}, "m.f", None),
    "async": ({"m.py": "async " + PLAIN}, "m.f", "m.py:1 async"),
    "a class": ({"m.py": "class f: pass"}, "m.f", "m.py:1 class"),
    "lambda": ({"m.py": "f = lambda a: a"}, "m.f", None),
    "imported": ({"m.py": "from n import g as f", "n.py": "\ndef g(): pass"}, "m.f", "n.py:2 function"),
    "imported, relative": (
        {"p/__init__.py": "from .n import f", "p/n.py": PLAIN},
        "p.f",
        "p/n.py:1 function",
    ),
    "imported, relative to the parent": (
        {"p/q/m.py": "from ..n import f", "p/n.py": PLAIN},
        "p.q.m.f",
        "p/n.py:1 function",
    ),
    "imported from elsewhere": ({"m.py": "from numpy import f"}, "m.f", None),
    "imported in a circle": ({"m.py": "from n import f", "n.py": "from m import f"}, "m.f", None),
    "imported by a star": ({"m.py": "from n import *", "n.py": PLAIN}, "m.f", None),
    "imported, and not there": ({"m.py": "from n import f", "n.py": ""}, "m.f", None),
    "a submodule": ({"p/__init__.py": "", "p/f.py": ""}, "p.f", None),
    "a static method": (
        {"m.py": "class C:\n    @staticmethod\n    def f(): pass"},
        "m.C.f",
        "m.py:3 function",
    ),
    "an inherited method": ({"m.py": "class C(B): pass"}, "m.C.f", None),
    "no such method": ({"m.py": "class C:\n    def g(self): pass"}, "m.C.f", "absent m.C"),
    "a module's __getattr__": ({"m.py": "def __getattr__(name): return print"}, "m.f", None),
    "made by globals": ({"m.py": "globals()['f'] = print"}, "m.f", None),
    "made by globals in a function": ({"m.py": "def g():\n    globals()['f'] = print\ng()"}, "m.f", None),
    "made in sys.modules": (
        {"m.py": "import sys\ndef g():\n    sys.modules[__name__].f = print\ng()"},
        "m.f",
        None,
    ),
    "made by one who knows the name": (
        {"m.py": "from enum import IntEnum\nIntEnum._convert_('A', __name__, bool)"},
        "m.f",
        None,
    ),
    "not made by a logger": (
        {"m.py": "import logging\nlog = logging.getLogger(__name__)\ndef g(): ..."},
        "m.f",
        "absent m",
    ),
    "not there": ({"m.py": "def g(): pass\ndef _h(): pass"}, "m.f", "absent m"),
    "bad syntax": ({"m.py": "def f(:"}, "m.f", None),
    "not in the bundle": ({"m.py": ""}, "numpy.f", None),
}


@pytest.mark.parametrize(("files", "path", "expected"), CASES.values(), ids=CASES.keys())
def test_what_is_known(tmp_path, files, path, expected):
    result = source.read_function(write_bundle(tmp_path, files), path)
    if isinstance(result, Definition):
        assert f"{result.place} {result.kind}" == expected
    elif isinstance(result, Absent):
        assert f"absent {result.owner}" == expected
    else:
        assert result is expected


def _draw_parameters(rng: random.Random) -> str:
    names = [f"p{number}" for number in range(rng.randrange(6))]
    cuts = sorted(rng.randrange(len(names) + 1) for _ in range(3))
    first_default = rng.randrange(len(names) + 1)
    words = []
    for number, name in enumerate(names):
        if number == cuts[0] and number:
            words.append("/")
        if number == cuts[1]:
            words.append(rng.choice(["*", "*args"]))
        is_keyword = number >= cuts[1]
        default = rng.random() < 0.5 if is_keyword else number >= first_default
        words.append(f"{name}=[1, None]" if default else name)
    return ", ".join([*words, "**more"] if rng.random() < 0.3 else words)


def test_the_source_and_the_runner_see_the_same_signature(tmp_path):
    """By the source, by the code object, and by inspect, of functions with any kinds of parameters."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(300):
        code = f"def f({_draw_parameters(rng)}): pass\n"
        definition = source.read_function(write_bundle(tmp_path, {"m.py": code}), "m.f")
        namespace: dict = {}
        exec(code, namespace)
        by_code, _ = functions.read_signature("m.f", namespace["f"])
        by_inspect, _, _ = functions._inspect("m.f", namespace["f"])
        assert _make_signature(definition.arguments) == by_code == by_inspect, (seed, code)
        assert set(by_code.by_name + by_code.by_position) == {
            name
            for name, each in inspect.signature(namespace["f"]).parameters.items()
            if each.kind not in (2, 4)
        }


def test_modules_are_listed(tmp_path):
    write_bundle(tmp_path, {"a.py": "", "b/__init__.py": "", "c/d.py": "", "src/e.py": "", "no-name.py": ""})
    assert source.list_modules(tmp_path) == ["a", "b", "e"]
    assert functions._list_modules(str(tmp_path)) == ["a", "b", "e"]
    assert source.has_model(tmp_path, "c.d.f") and not source.has_model(tmp_path, "f.g")


def test_the_standard_library_can_be_read_without_a_fault(tmp_path):
    """Whatever a source holds, it is read or left open."""
    rng = random.Random(seed := random.randrange(2**32))
    for name in rng.sample(sorted(sys.stdlib_module_names), 40):
        module = sys.modules.get(name)
        file = str(getattr(module, "__file__", None))
        if file.endswith(".py"):
            Path(tmp_path, f"{name}.py").write_bytes(Path(file).read_bytes())
            own = [key for key, value in vars(module).items() if not isinstance(value, ModuleType)]
            for attribute in own[:50]:
                result = source.read_function(tmp_path, f"{name}.{attribute}")
                assert not isinstance(result, Absent), (seed, name, attribute)
