"""The part of verify.py that reads redo/: the generation from which on the rows of a task count.

redo/*.json + Tasks -> Redos, and Defects for a Report
"""

import json
from dataclasses import dataclass

import numpy as np

from modelops_dask.store.verify_tasks import Report, StoreReader, Tasks, line

RESTORE = "restore it from a copy"


@dataclass
class Redos:
    """`least` is the highest redo that names a task, int (n_sets, replicates); 0 for a task without one."""

    least: np.ndarray
    count: int = 0


def read_redos(reader: StoreReader, tasks: Tasks, store_format: int, report: Report) -> Redos:
    """Read and check the redos of a store: numbered from 1 without a gap, with existing sets."""
    redos = Redos(np.zeros((len(tasks.ids), tasks.replicates), np.int64))
    names = [name for name in reader.names("redo") if not name.startswith(".")]
    if names and store_format < 3:
        report.add(
            "REDO", "study.json", f"has format {store_format}, and a store with redo/ has 3: {RESTORE}"
        )
    for generation, name in enumerate(names, 1):
        path = f"redo/{name}"
        if name != f"{generation:06}.json":
            report.add(
                "REDO", path, f"is in place of redo/{generation:06}.json: restore that file from a copy"
            )
            return redos
        try:
            redo = json.loads(reader.read(path))
            if redo["generation"] != generation or not redo["redo"]:
                raise ValueError(f"says generation {redo['generation']!r} of {redo['redo']!r}")
            for area in redo["tasks"]:
                for first, last in area["sets"]:
                    if not 0 <= first < last <= len(tasks.ids):
                        raise ValueError(f"names sets {first} to {last} of {len(tasks.ids)}")
                    for begin, end in area["replicates"]:
                        redos.least[first:last, begin:end] = generation
        except (ValueError, KeyError, TypeError) as error:
            report.add("REDO", path, f"is damaged ({line(error)}): {RESTORE}")
        redos.count = generation
    return redos
