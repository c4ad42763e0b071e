"""The Pythons of this machine beside that of the tests, and bundles that need them."""

import sys
from pathlib import Path

import pytest

from modelops_dask.environments import interpreters

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
PROJECT = '[project]\nname = "model"\nversion = "1"\nrequires-python = "%s"\ndependencies = [%s]\n'


def find_others() -> list[str]:
    """The minor versions of the other Pythons of this machine that models can run with, in their order."""
    installed = interpreters.list_installed(Path.cwd())
    return list(dict.fromkeys(each.minor_version for each in installed if each.minor_version != OWN))


OTHERS = find_others()
needs_other = pytest.mark.skipif(not OTHERS, reason="this machine has no Python but that of the tests")
