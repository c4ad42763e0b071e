"""Growth of E. coli after the loss of a reaction (COBRApy). The network is loaded once; a limit that a
diet sets stays.
"""

import json

from cobra.io import load_model

NETWORK = load_model("textbook")


def wire(entrypoint, params, seed):
    if "glucose" in params:
        NETWORK.reactions.EX_glc__D_e.lower_bound = -params["glucose"]
    reactions = sorted(reaction.id for reaction in NETWORK.reactions)
    lost = NETWORK.reactions.get_by_id(reactions[seed % len(reactions)])
    with NETWORK:
        lost.bounds = (0, 0)
        growth = NETWORK.slim_optimize(error_value=0.0)
    return {"growth": json.dumps({"lost": lost.id, "growth": round(growth, 6)}).encode()}
