"""A claim on work that several runs of a study may find to do at once: writing the tables.

a run -> hold_claim() -> True: do it; False: another is at it

Advisory, as driver.json is: the work ends the same if two do it. So a claim that is old, for its run was
killed, holds nobody up, and neither does one's own.
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
    """Claim the work for `owner` while the `with` lasts, and yield whether it has the claim."""
    # Unique, for of two writers of the same bytes behind a URL both would have it.
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
