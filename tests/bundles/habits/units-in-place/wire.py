"""A model from before that makes its parameters its own: yearly rates become daily, options are taken out."""

import json


def wire(entrypoint, params, seed):
    transmission = params["transmission"]
    transmission["rate"] /= 365
    for age in params["ages"]:
        age["share"] = age.pop("percent") / 100
    params["ages"].append({"name": "unknown", "share": 0})
    season = params.pop("season", None)
    return {"reads": json.dumps([transmission, params["ages"], season, seed])}
