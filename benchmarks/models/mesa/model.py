"""An economy of Mesa: the data frame of its collector."""

from economy import Economy


def simulate(people, steps, seed):
    economy = Economy(people, seed)
    for _ in range(steps):
        economy.step()
    return economy.collector.get_agent_vars_dataframe()
