"""A few cases of the fault campaign, always the same ones; `make faults` has hundreds."""

import pytest

from faults.acts import ON_RUNS, ON_STORES
from faults.campaign import Campaign, Case

SEEDS = (936, 3365, 4500, 5938)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """What is known of undisturbed studies is shared."""
    return Campaign(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disturbed_study_comes_to_the_same(seed, campaign):
    told = campaign.tell(Case.of(seed))
    print(told)
    assert not told.wrong, str(told)


def test_the_seeds_cover_most_kinds_of_faults():
    covered = {fault for seed in SEEDS for fault, _ in Case.of(seed).faults}
    assert len(covered) > len(ON_RUNS + ON_STORES) / 2


def test_a_seed_stands_for_one_case():
    assert all(Case.of(seed) == Case.of(seed) for seed in range(100))
