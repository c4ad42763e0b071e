"""Dask's own log lines about what the dispatcher reports in words of its own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

# What was to be sent when a connection broke, or awaited when Ctrl-C came, is told with a traceback.
ABOUT_CONNECTIONS = ("distributed.batched", "distributed.client", "tornado.application")


@contextmanager
def quieter(*loggers: str) -> Iterator[None]:
    """Only critical messages of these loggers, for as long as the `with` lasts."""
    before = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
