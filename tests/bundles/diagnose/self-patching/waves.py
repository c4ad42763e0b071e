"""Epidemic waves, from a growth rate that a package fits when it is first asked."""

import json
import math

from calibration import growth_rate


def wire(entrypoint, params, seed):
    rate = growth_rate(seed)
    return {"wave": json.dumps({"peak": math.exp(rate * params["weeks"]), "weeks": params["weeks"]}).encode()}
