"""The bundle's wire function: one task in, tables as Arrow IPC bytes out.

    "models.sir.simulate/SCENARIO", params, seed -> simulate() -> {"incidence": bytes, "summary": bytes}

Does not name the parameters: simulate() refuses those that it does not know.
"""

import numpy as np
import pyarrow as pa

from models import sir


def wire(entrypoint: str, params: dict, seed: int) -> dict[str, bytes]:
    """New infections a week, and one row that sums the epidemic up."""
    model, _, scenario = entrypoint.partition("/")
    if model != "models.sir.simulate":
        raise ValueError(f"this bundle has models.sir.simulate, not {model}")
    epidemic = sir.simulate(scenario, seed, **params)
    weekly = epidemic.infections.reshape(-1, 7).sum(axis=1)
    incidence = {"week": np.arange(1, len(weekly) + 1), "infections": weekly}
    ill = np.flatnonzero(epidemic.infectious)
    summary = {
        "attack_rate": [1 - epidemic.susceptible[-1] / epidemic.susceptible[0]],
        "peak_infectious": [epidemic.infectious.max()],
        "peak_day": [epidemic.infectious.argmax()],
        "last_day_infectious": [ill[-1] if len(ill) else 0],
    }
    return {"incidence": arrow_bytes(incidence), "summary": arrow_bytes(summary)}


def arrow_bytes(columns: dict) -> bytes:
    """A table in Arrow's IPC file format."""
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
