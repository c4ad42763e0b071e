"""Fluxes of E. coli by COBRApy: a pandas Series."""

from cobra.io import load_model

NETWORK = load_model("textbook")


def simulate(glucose, oxygen):
    with NETWORK as network:
        network.reactions.EX_glc__D_e.lower_bound = -glucose
        network.reactions.EX_o2_e.lower_bound = -oxygen
        return network.optimize().fluxes
