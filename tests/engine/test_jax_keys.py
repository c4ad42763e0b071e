"""Keys of jax that are made at import: told before anything runs, for they cannot be seeded."""

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask import bundle
from modelops_dask.study.jax_keys import describe_keys

AT_IMPORT = {
    "key": "import jax\nKEY = jax.random.key(0)\n",
    "PRNGKey": "import jax\nKEY = jax.random.PRNGKey(0)\n",
    "another name": "import jax.random as jr\nKEY = jr.split(jr.PRNGKey(7))\n",
    "the module": "from jax import random\nKEY = random.key(0)\n",
    "the function": "from jax.random import PRNGKey as make\nKEYS = [make(0)]\n",
    "a class": "import jax\nclass Model: key = jax.random.key(0)\n",
    "a branch": "import jax\nif True: KEY = jax.random.key(0)\n",
}
IN_TASKS = {
    "from the seed": "import jax\ndef wire(e, p, seed):\n    return jax.random.key(seed)\n",
    "a lambda": "import jax\nmake = lambda seed: jax.random.key(seed)\n",
    "another random": "import jax\nimport random\nx = random.random()\n",
    "by hand only": "import jax\nif __name__ == '__main__':\n    print(jax.random.key(0))\n",
    "a mention": "TEXT = 'jax.random.key(0)'\n",
    "no Python": "import jax\nKEY = jax.random.key(\n",
}


def describe(folder, text: str) -> str:
    source = write_bundle(folder / "model", {"wire.py": "", "models/sir.py": text})
    return describe_keys(bundle.fetch(str(source), settings(folder).bundles_cache_dir))


@pytest.mark.parametrize("text", AT_IMPORT.values(), ids=AT_IMPORT)
def test_a_key_made_at_import_is_told_with_its_line(tmp_path, text):
    note = describe(tmp_path, text)
    assert "jax key when it is imported (models/sir.py:2)" in note and "jax.random.key(seed)" in note


@pytest.mark.parametrize("text", IN_TASKS.values(), ids=IN_TASKS)
def test_whatever_is_no_key_made_at_import_is_not(tmp_path, text):
    assert describe(tmp_path, text) == ""
