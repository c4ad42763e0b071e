"""The needs of a model's tasks in earlier runs, as a basis for estimates.

parts of a store -> measure() -> profile.json in that store -> find(), also from neighbouring stores

It is derived: without it, or with one of another bundle, there is no estimate. Estimates are made in
estimate.py.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow.compute as pc

from modelops_dask.errors import MopsError
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.identity import read_study

FILE = "profile.json"
HIGH = 0.95  # the quantile called high


@dataclass(frozen=True)
class Profile:
    """Tasks that ended ok, and those that ran out of memory. 0 bytes: peaks are not known."""

    bundle: str  # digest
    entrypoint: str
    executor: str
    tasks: int
    mean_seconds: float
    high_seconds: float  # 95% took at most this
    median_peak_bytes: int
    high_peak_bytes: int  # 95% held at most this
    most_peak_bytes: int
    out_of_memory: int = 0
    most_limit_bytes: int = 0  # the largest limit that was too small
    least_peak_bytes: int = 0
    first_set: int = 0  # of those that ended ok
    last_set: int = 0
    # Why tasks ran in new interpreters instead of forks -> seconds that each took besides the model's own.
    fallback_seconds: dict[str, float] = field(default_factory=dict)


def measure(store: Store) -> Profile | None:
    """Measure the profile of a store; None before a task has ended ok. Raises NoStudy."""
    study = read_study(store)
    seconds, peaks, limits, sets, executor = [], [], [], [], ""
    columns = ["set", "status", "reason", "seconds", "peak_bytes", "limit_bytes", "executor"]
    for part in parts.scan(store, columns):
        rows = part.table
        ok = rows.filter(pc.equal(rows["status"], "ok"))
        seconds.append(parts.numbers_or_zero(ok, "seconds"))
        peaks.append(parts.numbers_or_zero(ok, "peak_bytes"))
        sets.append(ok["set"].to_numpy())
        limits.append(
            parts.numbers_or_zero(rows.filter(pc.equal(rows["reason"], parts.OUT_OF_MEMORY)), "limit_bytes")
        )
        executor = (ok["executor"][-1].as_py() or "") if len(ok) else executor
    if not sum(map(len, seconds)):
        return None
    all_seconds, all_peaks, all_limits, all_sets = map(np.concatenate, (seconds, peaks, limits, sets))
    median_peak, high_peak, most_peak = (int(np.quantile(all_peaks, share)) for share in (0.5, HIGH, 1))
    return Profile(
        bundle=study.bundle,
        entrypoint=study.entrypoint,
        executor=executor,
        tasks=len(all_seconds),
        mean_seconds=float(all_seconds.mean()),
        high_seconds=float(np.quantile(all_seconds, HIGH)),
        median_peak_bytes=median_peak,
        high_peak_bytes=high_peak,
        most_peak_bytes=most_peak,
        out_of_memory=len(all_limits),
        most_limit_bytes=int(all_limits.max(initial=0)),
        least_peak_bytes=int(all_peaks.min()),
        first_set=int(all_sets.min()),
        last_set=int(all_sets.max()),
    )


def save(store: Store, fallback_seconds: Mapping[str, float]) -> None:
    """Write profile.json, if a task has ended ok; fallback_seconds are of this run, and earlier ones are
    kept.
    """
    if profile := measure(store):
        before = load(store)
        prices = {**(before.fallback_seconds if before else {}), **fallback_seconds}
        profile = replace(profile, fallback_seconds=prices)
        store.put(FILE, (json.dumps(asdict(profile), indent=1) + "\n").encode())


def describe_fallbacks(store: Store, fallbacks: Mapping[str, int]) -> tuple[str, ...]:
    """Describe tasks that had new interpreters instead of forks, a sentence for each reason.

    Args:
        store: The store whose profile has the times.
        fallbacks: Reason -> ok tasks.
    """
    profile = load(store) if fallbacks else None
    prices = profile.fallback_seconds if profile else {}
    return tuple(
        f"{count:,} ok tasks each ran in a new interpreter instead of a fork (isolated_fork), which "
        + (f"took {prices[reason]:.2g} s more for each" if reason in prices else "is slower")
        + f": {reason}. For remedies, see docs/isolation.md"
        for reason, count in fallbacks.items()
    )


def find(store: Store, bundle: str, entrypoint: str) -> Profile | None:
    """Find the profile of a store, otherwise the newest one of that bundle and entrypoint in neighbouring
    folders.
    """
    stores = [store]
    if store.folder and store.folder.parent.is_dir():
        neighbour_paths = sorted(
            store.folder.parent.glob(f"*/{FILE}"), key=lambda path: -path.stat().st_mtime
        )
        stores += [Store(str(path.parent)) for path in neighbour_paths]
    for candidate in stores:
        profile = load(candidate)
        if profile and profile.entrypoint == entrypoint and _is_of(candidate, profile, bundle):
            return profile
    return None


def _is_of(store: Store, profile: Profile, bundle: str) -> bool:
    """Whether a store's profile belongs to a bundle, or to an accepted one."""
    if profile.bundle == bundle:
        return True
    try:
        return bundle in read_study(store).bundles
    except (OSError, MopsError):
        return False


def load(store: Store) -> Profile | None:
    """Load the profile of a store; None without one."""
    try:
        return Profile(**json.loads(store.read(FILE)))
    except (OSError, ValueError, TypeError, MopsError):
        return None
