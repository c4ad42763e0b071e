"""A few runs of the fault campaign, at random; `make faults` has hundreds."""

import random
from functools import cache

import pytest

from faults import campaign

RUNS = 2


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The content of runs that nobody disturbs."""

    @cache
    def content(executor, extended):
        return campaign.undisturbed(tmp_path_factory.mktemp("quiet"), executor, extended)

    return content


@pytest.mark.parametrize("number", range(RUNS))
def test_disturbed_studies_come_to_the_same(number, expected, tmp_path):  # noqa: ARG001
    told = campaign.one(random.randrange(10**6), tmp_path, expected)
    print(told)
    assert not told.wrong, str(told)
