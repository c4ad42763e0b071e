"""A claim on work that several runs of a study may find to do at once: writing the tables.

a run -> claimed() -> True: do it; False: another is at it

Advisory, as driver.json is: the work ends the same if two do it. So a claim that is old, for its run was
killed, holds nobody up, and neither does one's own.
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from modelops_dask.store.files import Files

FILE = "results.claim"
STALE_SECONDS = 900.0


@contextmanager
def claimed(files: Files, who: str) -> Iterator[bool]:
    """Whether `who` has the claim while the `with` lasts."""
    # Unique, for of two writers of the same bytes behind a URL both would have it.
    claim = {"who": who, "at": time.time(), "nonce": uuid.uuid4().hex}
    mine = files.create(FILE, json.dumps(claim).encode()) or _passes(files, who)
    try:
        yield mine
    finally:
        if mine:
            files.remove(FILE)


def _passes(files: Files, who: str) -> bool:
    """Whether the claim that is there means nothing to `who`."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        claim = json.loads(files.read(FILE))
        return claim["who"] == who or abs(time.time() - claim["at"]) > STALE_SECONDS
    return True
