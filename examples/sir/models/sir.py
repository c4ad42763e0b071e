"""A stochastic SIR epidemic in a closed population where everybody meets everybody.

In each step of a quarter of a day, a susceptible person is infected with probability 1 - exp(-beta c I/N dt)
and an infectious one recovers with probability 1 - exp(-dt/D): two binomial draws.
beta = R0/D; c scales contacts and is what a scenario changes.

Knows nothing of bundles, bytes or Dask: wire.py does.
"""

from dataclasses import dataclass
from math import expm1

import numpy as np

DAYS = 364
STEPS_PER_DAY = 4


@dataclass(frozen=True)
class Lockdown:
    """Contacts times `contacts` from the first day to the day before the last."""

    first_day: int
    last_day: int
    contacts: float


SCENARIOS = {
    "baseline": None,
    "lockdown": Lockdown(first_day=30, last_day=90, contacts=0.4),
}


@dataclass(frozen=True)
class Epidemic:
    """People in each state at the end of each day, from day 0 on: arrays of shape (DAYS + 1,), int64."""

    susceptible: np.ndarray
    infectious: np.ndarray
    recovered: np.ndarray

    @property
    def infections(self) -> np.ndarray:
        """New infections of each day, shape (DAYS,)."""
        return -np.diff(self.susceptible)


def simulate(
    scenario: str,
    seed: int,
    *,
    r0: float,
    infectious_days: float,
    population: int = 10_000,
    infected_at_start: int = 10,
) -> Epidemic:
    """Run one epidemic. The same arguments give the same epidemic, in any process and in any order.

    Raises KeyError for an unknown scenario and ValueError for parameters without a meaning.
    """
    lockdown = SCENARIOS[scenario]
    if not (r0 >= 0 and infectious_days > 0 and 0 <= infected_at_start < population):
        raise ValueError("need r0 >= 0, infectious_days > 0 and 0 <= infected_at_start < population")
    rng = np.random.default_rng(seed)
    dt = 1 / STEPS_PER_DAY
    force_per_infectious = r0 / infectious_days * dt / population
    p_recovery = -expm1(-dt / infectious_days)

    susceptible, infectious, recovered = population - infected_at_start, infected_at_start, 0
    days = np.empty((DAYS + 1, 3), dtype=np.int64)
    days[0] = susceptible, infectious, recovered
    for day in range(DAYS):
        locked = lockdown is not None and lockdown.first_day <= day < lockdown.last_day
        force = force_per_infectious * (lockdown.contacts if locked else 1.0)
        for _ in range(STEPS_PER_DAY):
            infections = int(rng.binomial(susceptible, -expm1(-force * infectious)))
            recoveries = int(rng.binomial(infectious, p_recovery))
            susceptible -= infections
            infectious += infections - recoveries
            recovered += recoveries
        days[day + 1] = susceptible, infectious, recovered
    return Epidemic(*days.T)
