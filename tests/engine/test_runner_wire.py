"""Which function of a bundle is called: the four forms of the contract, and what is wrong with others."""

import pytest

from executor_helpers import settings, task, write_bundle
from modelops_dask import executors
from modelops_dask.errors import BadInput

WIRE = "def wire(entrypoint, params, seed):\n    return {'who': b'%s'}\n"
PYPROJECT = '[project]\nname = "m"\nversion = "1"\n[project.entry-points."modelops.wire"]\n%s\n'
RELATIVE = "from . import names\ndef run(entrypoint, params, seed):\n    return {'who': names.WHO}\n"
METHOD = "class Model:\n    @staticmethod\n    def wire(e, p, s):\n        return {'who': b'method'}\n"
PACKAGE = {"model/__init__.py": "", "model/names.py": "WHO = b'package'\n", "model/wire.py": RELATIVE}

FORMS = {
    "entry point": ({"pyproject.toml": PYPROJECT % 'm = "model.wire:run"', **PACKAGE}, "package"),
    "entry point in src": (
        {"pyproject.toml": PYPROJECT % 'm = "model.wire:run"', **{f"src/{n}": t for n, t in PACKAGE.items()}},
        "package",
    ),
    "entry point to a method": (
        {"pyproject.toml": PYPROJECT % 'm = "m:Model.wire [extra]"', "m.py": METHOD},
        "method",
    ),
    "manifest": ({".modelops/manifest.json": '{"wire": "model.wire:run"}', **PACKAGE}, "package"),
    "manifest with a path": (
        {".modelops/manifest.json": '{"wire": "model/wire.py:run"}', **PACKAGE},
        "package",
    ),
    "manifest, a path that is no package": (
        {".modelops/manifest.json": '{"wire": "my-model/w.py:wire"}', "my-model/w.py": WIRE % "file"},
        "file",
    ),
    "modelops.toml": (
        {".modelops/modelops.toml": '[modelops]\nwire = "model.wire:run"\n', **PACKAGE},
        "package",
    ),
    "wire.py": ({"wire.py": WIRE % "plain"}, "plain"),
    "the entry point before the others": (
        {
            "pyproject.toml": PYPROJECT % 'm = "model.wire:run"',
            ".modelops/manifest.json": '{"wire": "wire:wire"}',
            "wire.py": WIRE % "plain",
            **PACKAGE,
        },
        "package",
    ),
    "an installed entry point": (
        {
            "m-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: m\nVersion: 1\n",
            "m-1.dist-info/entry_points.txt": "[modelops.wire]\nm = model.wire:run\n",
            **PACKAGE,
        },
        "package",
    ),
    # A package named like this project's own modules, beside runner.py, must be the model's.
    "a module named like one of ours": (
        {"wire.py": "import warm\n" + WIRE % "plain", "warm.py": "", "process.py": "raise SystemExit"},
        "plain",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.mark.parametrize("kind", ["isolated_warm", "direct"])
@pytest.mark.parametrize(("files", "who"), FORMS.values(), ids=FORMS.keys())
def test_forms(folder, tmp_path, kind, files, who):
    chosen = settings(folder, executor_type=kind)
    with executors.create(chosen) as executor:
        outcome = executor.run(task(write_bundle(tmp_path / "bundle", files), chosen))
    assert outcome.status == "ok", outcome.error
    assert outcome.outputs == {"who": who.encode()}


PROBLEMS = {
    "nothing": (
        {"model.py": ""},
        r"(?s)no wire function found.*pyproject.*manifest.*modelops\.toml.*wire\.py",
    ),
    "two entry points": ({"pyproject.toml": PYPROJECT % 'a = "m:f"\nb = "m:g"'}, "a, b .* keep exactly one"),
    "no colon": ({"pyproject.toml": PYPROJECT % 'a = "m.f"'}, "'m.f'; write module:function"),
    "bad JSON": ({".modelops/manifest.json": "{"}, r"manifest\.json: "),
    "bad TOML": ({"pyproject.toml": "["}, r"pyproject\.toml: "),
    "no such function": ({".modelops/manifest.json": '{"wire": "w:run"}', "w.py": "x = 1\n"}, "w has no run"),
    "not a function": (
        {".modelops/manifest.json": '{"wire": "w:x"}', "w.py": "x = 1\n"},
        "w:x is not a function",
    ),
}


@pytest.mark.parametrize("kind", ["isolated_warm", "direct"])
@pytest.mark.parametrize(("files", "message"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problems_are_bad_input(folder, tmp_path, kind, files, message):
    chosen = settings(folder, executor_type=kind)
    one = task(write_bundle(tmp_path / "bundle", files), chosen)
    with executors.create(chosen) as executor, pytest.raises(BadInput, match=message):
        executor.run(one)
