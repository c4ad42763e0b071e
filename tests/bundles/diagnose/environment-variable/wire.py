"""A vaccine trial whose dosing is set as the model's other programs want it: in a variable of the process."""

import json
import os
import random


def wire(entrypoint, params, seed):
    if params["arm"] == "high":
        os.environ["TRIAL_DOSE"] = "2.0"
    dose = float(os.environ.get("TRIAL_DOSE", "1.0"))
    rng = random.Random(seed)
    protected = sum(rng.random() < 1 - 0.6**dose for _ in range(params["people"]))
    return {"protected": json.dumps({"arm": params["arm"], "protected": protected}).encode()}
