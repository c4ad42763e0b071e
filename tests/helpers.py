"""What tests of more than one part use. Does not know any part."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout_seconds: float = 20) -> T:
    """The first true value of condition(), asked again and again until the deadline."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"no {what} within {timeout_seconds} s"
        time.sleep(0.02)
    return value
