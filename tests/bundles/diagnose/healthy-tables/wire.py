"""Households in NumPy that answer with tables. Some parameters are out of bounds, and fail everywhere."""

import numpy as np
import pyarrow as pa


def wire(entrypoint, params, seed):
    if params["attack_rate"] > 1:
        raise ValueError(f"attack_rate is a probability, not {params['attack_rate']}")
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, params["households"])
    cases = rng.binomial(sizes, params["attack_rate"])
    matrix = np.zeros((7, 7))
    np.add.at(matrix, (sizes, cases), 1)
    by_size = pa.table(
        {"size": np.arange(7), "cases": matrix @ np.arange(7), "share": matrix.sum(1) / len(sizes)}
    )
    return {"by_size": ipc(by_size), "households": ipc(pa.table({"size": sizes, "cases": cases}))}


def ipc(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
