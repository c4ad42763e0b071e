"""Decay by chance, of GillesPy2: its trajectory, which is a mapping of arrays."""

import gillespy2 as g


def simulate(decay, seed, until=20):
    model = g.Model(name="decay")
    model.add_parameter(g.Parameter(name="k", expression=decay))
    model.add_species(g.Species(name="A", initial_value=100))
    model.add_reaction(g.Reaction(reactants={"A": 1}, products={}, rate="k"))
    model.timespan(g.TimeSpan.linspace(until, until + 1))
    return dict(model.run(solver=g.NumPySSASolver, seed=seed % 2**31 + 1)[0])
