"""Faults of parts that are not the study's own, although they look like it: none of them may count.

add_late_parts    parts with wrong results, as another study, bundle, seed or an old version would write them
begin_again       the store is removed and begun again, while workers of the first run still write
"""

import random
from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from faults.disturbed import RUN_SECONDS, Disturbed
from helpers import wait_for
from modelops_dask.errors import MopsError
from modelops_dask.store.identity import PartMark, StudyIdentity, read_study
from modelops_dask.store.parts import Attempt, encode
from modelops_dask.store.study import read_plan

# What 0.1.0 wrote: the columns of its schema, and no mark.
COLUMNS_OF_0_1_0 = (
    *("set", "replicate", "seed", "status", "reason", "error", "log", "peak_bytes", "limit_bytes"),
    *("threads", "environment", "executor", "preset", "seconds", "ended", "digest", "outputs"),
)
WRONG = b"late"  # no task returns this
STATUSES = ("ok", "ok", "failed", "poisoned")
KINDS = ("late", "copied", "bundle", "seed", "unmarked")


def add_late_parts(study: Disturbed, rng: random.Random) -> bool:
    """Parts of the study's tasks come from elsewhere: of the store that was here before, of another store or
    bundle, with another's seeds, of mops-helm 0.1.
    """
    try:
        own, plan = read_study(study.files), read_plan(study.files)
    except MopsError:  # not begun
        return False
    tasks = list(plan.tasks([(0, plan.absent.size)]))
    for kind in rng.sample(KINDS, rng.randint(1, len(KINDS))):
        status = rng.choice(STATUSES)
        rows = [
            Attempt(
                *(task.set, task.replicate, task.seed ^ (kind == "seed"), status),
                outputs={"y": WRONG} if status == "ok" else {},
            )
            for task in rng.sample(tasks, rng.randint(1, 12))
        ]
        name = f"{rng.getrandbits(128):032x}.parquet"
        study.torn.add(name)
        study.files.put(f"parts/{name}", _part(kind, rows, own, rng))
    return True


def _part(kind: str, rows: Sequence[Attempt], own: StudyIdentity, rng: random.Random) -> bytes:
    another, bundle = f"{rng.getrandbits(128):032x}", f"sha256:{rng.getrandbits(256):064x}"
    mark = {
        "late": PartMark(another, own.bundle),
        "copied": PartMark(another, bundle),
        "bundle": PartMark(own.uuid, bundle),
        "seed": PartMark(own.uuid, own.bundle),
        "unmarked": None,
    }[kind]
    data = encode(rows, mark)
    if kind != "unmarked":
        return data
    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(data)).select(COLUMNS_OF_0_1_0), sink)
    return sink.getvalue().to_pybytes()


def begin_again(study: Disturbed, rng: random.Random) -> bool:
    """The run is killed, its store removed, and the study begun again, perhaps with another version of the
    bundle. Workers of the first run may still write, and some of its parts come back.
    """
    # Of a merged file verify names the parts, not the file.
    names = [name for name in study.part_names() if name not in study.torn and not name.startswith("merged-")]
    late = {name: study.files.read(f"parts/{name}") for name in names[:3]}
    study.run.process.kill()
    study.remove_store()
    study.torn = set(late)
    study.begun_again = len(study.runs)
    if rng.random() < 0.5:
        with (study.bundle / "wire.py").open("a") as file:
            file.write("# another version\n")
    run = study.start()
    wait_for(lambda: run.ended or _is_begun(study), "study.json", RUN_SECONDS)
    for name, data in late.items():
        study.files.put(f"parts/{name}", data)
    return True


def _is_begun(study: Disturbed) -> bool:
    with suppress(MopsError):
        return bool(read_study(study.files))
    return False
