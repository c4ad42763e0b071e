"""A few cases of the fault campaign, always the same ones; `make faults` has hundreds."""

import pytest

from faults.acts import ON_RUNS, ON_STORES, drive_twice, extend_beside
from faults.campaign import Campaign, Case

SEEDS = (98, 13817, 81488, 173365, 178119)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Object stores are shared."""
    with Campaign(tmp_path_factory.mktemp("faults")) as campaign:
        yield campaign


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disturbed_study_comes_to_the_same(seed, campaign):
    told = campaign.tell(Case.of(seed))
    print(told)
    assert not told.wrong, str(told)


def test_the_seeds_cover_every_kind_of_fault():
    cases = [Case.of(seed) for seed in SEEDS]
    assert {fault for case in cases for fault, _ in case.faults} == {*ON_RUNS, *ON_STORES}
    assert {"forks", "babbles", "forges"} <= {case.conditions.trouble for case in cases}
    on_servers = {fault for case in cases if case.conditions.server for fault, _ in case.faults}
    assert {drive_twice, extend_beside} <= on_servers


def test_a_seed_stands_for_one_case():
    assert all(Case.of(seed) == Case.of(seed) for seed in range(100))
