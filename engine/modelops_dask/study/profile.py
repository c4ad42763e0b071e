"""What tasks of a model took, measured by earlier runs: the ground for estimates.

parts of a store -> measure() -> profile.json in that store -> find(), also from the stores beside it

It is derived: when it is missing, or of another bundle, there is just no estimate. Does not estimate:
estimate.py does.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow.compute as pc

from modelops_dask.errors import MopsError
from modelops_dask.store import parts
from modelops_dask.store.files import Files
from modelops_dask.store.identity import read_study

FILE = "profile.json"
HIGH = 0.95  # the quantile that is called high


@dataclass(frozen=True)
class Profile:
    """Tasks that ended ok, and those that ran out of memory. 0 bytes: peaks are not known."""

    bundle: str  # digest
    entrypoint: str
    executor: str
    tasks: int
    mean_seconds: float
    high_seconds: float  # 95% took no longer
    median_peak_bytes: int
    high_peak_bytes: int  # 95% held no more
    most_peak_bytes: int
    out_of_memory: int = 0
    most_limit_bytes: int = 0  # the largest limit that was still too small
    least_peak_bytes: int = 0
    first_set: int = 0  # of those that ended ok
    last_set: int = 0


def measure(files: Files) -> Profile | None:
    """The profile of what a store holds; None before a task has ended ok. NoStudy."""
    study = read_study(files)
    seconds, peaks, limits, sets, executor = [], [], [], [], ""
    columns = ["set", "status", "reason", "seconds", "peak_bytes", "limit_bytes", "executor"]
    for part in parts.scan(files, columns):
        rows = part.table
        ok = rows.filter(pc.equal(rows["status"], "ok"))
        seconds.append(parts.known(ok, "seconds"))
        peaks.append(parts.known(ok, "peak_bytes"))
        sets.append(ok["set"].to_numpy())
        limits.append(parts.known(rows.filter(pc.equal(rows["reason"], parts.OUT_OF_MEMORY)), "limit_bytes"))
        executor = (ok["executor"][-1].as_py() or "") if len(ok) else executor
    if not sum(map(len, seconds)):
        return None
    took, held, short, of = (np.concatenate(each) for each in (seconds, peaks, limits, sets))
    return Profile(
        study.bundle,
        study.entrypoint,
        executor,
        len(took),
        float(took.mean()),
        float(np.quantile(took, HIGH)),
        *(int(np.quantile(held, share)) for share in (0.5, HIGH, 1)),
        len(short),
        int(short.max(initial=0)),
        *(int(number) for number in (held.min(), of.min(), of.max())),
    )


def save(files: Files) -> None:
    """Write profile.json, if there is something to say."""
    if profile := measure(files):
        files.put(FILE, (json.dumps(asdict(profile), indent=1) + "\n").encode())


def find(files: Files, bundle: str, entrypoint: str) -> Profile | None:
    """The profile of a store, else the newest of that bundle and entrypoint in the folders beside it."""
    stores = [files]
    if files.folder and files.folder.parent.is_dir():
        beside = sorted(files.folder.parent.glob(f"*/{FILE}"), key=lambda path: -path.stat().st_mtime)
        stores += [Files(str(path.parent)) for path in beside]
    for store in stores:
        found = load(store)
        if found and (found.bundle, found.entrypoint) == (bundle, entrypoint):
            return found
    return None


def load(files: Files) -> Profile | None:
    """What profile.json of a store says; None without one."""
    try:
        return Profile(**json.loads(files.read(FILE)))
    except (OSError, ValueError, TypeError, MopsError):
        return None
