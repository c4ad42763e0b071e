"""Your model: a function of parameters and a seed. Replace `outbreak` with your own function."""

import numpy as np


def outbreak(r0: float, population: int = 1000, *, scenario: str, seed: int) -> dict:
    """Reed-Frost epidemic: each generation infects the next one at random, until one infects nobody.

    The study passes the parameters by name. It also passes `seed` and `scenario` if the function has them.
    Returns tables by name. A table is a dict of columns, a list of records, or a DataFrame.
    """
    rng = np.random.default_rng(seed)  # a task's only randomness, so its result is always the same
    susceptible = population - 1
    if scenario == "vaccinated":
        susceptible //= 2
    cases = [1]
    while cases[-1]:
        infected = int(rng.binomial(susceptible, 1 - (1 - r0 / population) ** cases[-1]))
        susceptible -= infected
        cases.append(infected)
    return {
        "generations": {"generation": list(range(len(cases))), "cases": cases},
        "summary": {"total_cases": [sum(cases)], "generations": [len(cases) - 1]},
    }
