"""The labelled set: models whose cause is known, through real diagnoses. `make bench-diagnose` runs each more
often, and counts errors.
"""

import pytest

from diagnose_helpers import NAMES, Case, wrong
from modelops_dask.diagnose import diagnose, workers
from modelops_dask.diagnose.verdict.verdict import VERDICTS
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape

BUDGET_SECONDS = 1200  # on a busy machine, too


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("diagnose")


@pytest.fixture(scope="module")
def client(folder):
    settings = Settings(bundles_cache_dir=folder / "bundles", venvs_dir=folder / "venvs")
    with workers(Shape(1, 4, 1, 4 * 512 * MIB), settings) as connected:
        yield connected


def test_every_verdict_has_a_model():
    assert {Case(name).label.verdict for name in NAMES} == set(VERDICTS) - {"inconclusive"}


@pytest.mark.parametrize("name", NAMES)
def test_the_cause_is_named(name, folder, client):
    case = Case(name)
    settings = case.settings(folder)
    bundle = case.prepare(settings)
    found = diagnose(client, case.spec, bundle, settings, tasks=6, repeats=2, budget_seconds=BUDGET_SECONDS)
    assert list(wrong(found.as_json(), case.label)) == [], found
