"""Fluxes of E. coli by COBRApy: a pandas Series."""

from cobra.io import load_model

NETWORK = load_model("textbook")


def simulate(glucose, oxygen):
    network = NETWORK.copy()  # with a solver of its own: one that is used again starts from its last solution
    network.reactions.EX_glc__D_e.lower_bound = -glucose
    network.reactions.EX_o2_e.lower_bound = -oxygen
    return network.optimize().fluxes
