"""Your model: functions of a scenario, a seed and parameters. Replace `outbreak` by your own."""

import numpy as np


def outbreak(scenario: str, seed: int, *, r0: float, population: int = 1000) -> dict:
    """Reed-Frost epidemic: each generation infects the next by chance, until one infects nobody.

    Returns tables by name. A table is a dict of columns, or a DataFrame if pyproject.toml names pandas.
    """
    rng = np.random.default_rng(seed)  # all chance comes from the seed: run again, a task gives the same
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
