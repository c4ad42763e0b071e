"""A claim on work that several runs of a study may start at the same time: writing the tables.

a run -> hold_claim() -> True: do it; False: another run is doing it

It is advisory, like driver.json: the result is the same if two runs do the work. So an old claim, whose run
was killed, blocks no other run, and a run ignores its own.
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from modelops_dask.store.files import Store

FILE = "results.claim"
STALE_SECONDS = 900.0


@contextmanager
def hold_claim(store: Store, owner: str) -> Iterator[bool]:
    """Claim the work for `owner` during the `with`, and yield whether it has the claim."""
    # Unique, because two writers of the same bytes behind a URL would both succeed.
    claim = {"who": owner, "at": time.time(), "nonce": uuid.uuid4().hex}
    has_claim = store.create(FILE, json.dumps(claim).encode()) or _passes(store, owner)
    try:
        yield has_claim
    finally:
        if has_claim:
            store.remove(FILE)


def _passes(store: Store, owner: str) -> bool:
    """Whether `owner` may ignore the claim in the store: it is its own, too old, or damaged."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        claim = json.loads(store.read(FILE))
        return bool(claim["who"] == owner or abs(time.time() - claim["at"]) > STALE_SECONDS)
    return True
