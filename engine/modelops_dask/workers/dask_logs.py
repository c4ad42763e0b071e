"""Quiet Dask's own log lines about events that the dispatcher reports itself."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

# Messages being sent when a connection broke, or awaited at Ctrl-C, are logged with a traceback.
ABOUT_CONNECTIONS = ("distributed.batched", "distributed.client", "tornado.application")


@contextmanager
def quieter(*loggers: str) -> Iterator[None]:
    """Let these loggers emit only critical messages for the duration of the `with`."""
    before = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
