"""The bundle's wire function: one task in, one table as Parquet bytes out.

"models.starsim_sir.StarsimSIR/SCENARIO", params, seed -> build_sim().run() -> {"incidence": bytes}
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.starsim_sir import StarsimSIR


def wire(entrypoint: str, params: dict, seed: int) -> dict[str, bytes]:
    """A row per day: people in each state and new infections."""
    model, _, scenario = entrypoint.partition("/")
    if model != "models.starsim_sir.StarsimSIR":
        raise ValueError(f"this bundle has models.starsim_sir.StarsimSIR, not {model}")
    sim = StarsimSIR(scenario).build_sim(seed, **params)
    sim.run()
    sir = sim.results.sir
    table = {"day": np.arange(len(sir.new_infections))}
    for name in ("n_susceptible", "n_infected", "n_recovered", "new_infections"):
        table[name] = np.asarray(sir[name]).round().astype(np.int64)
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink)
    return {"incidence": sink.getvalue()}
