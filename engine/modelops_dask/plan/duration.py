"""Durations in a study file: a number of seconds, or text with a unit, such as 90s, 10m, 1.5h.

text or number -> parse_duration() -> seconds;   seconds -> format_limit() -> the shortest of these texts
"""

import math
import re

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
LONGEST_SECONDS = 30 * 24 * 3600  # for one task; a larger value is a mistake in the unit
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([smh])")
_CLOCK = re.compile(r"([0-9]{1,5}):([0-5][0-9])")  # which PyYAML reads as a number of seconds


def parse_duration(value: object) -> float:
    """Return the seconds of a number, or of text such as "10m". Raises ValueError with advice."""
    advice = "write seconds, such as 600, or text with s, m or h, such as 10m"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"not a duration; {advice}")
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip())
        if sexagesimal := _CLOCK.fullmatch(value.strip()):
            minutes, seconds_text = sexagesimal.groups()
            raise ValueError(
                f"{value!r} is not a duration; for {minutes} minutes and {seconds_text} seconds write "
                f"{int(minutes) * 60 + int(seconds_text)}"
            )
        if not match:
            raise ValueError(f"{value!r} is not a duration; {advice}")
        seconds = float(match[1]) * UNIT_SECONDS[match[2]]
    else:
        seconds = float(value) if abs(value) < 1e300 else math.inf
    if not 0 < seconds <= LONGEST_SECONDS:
        raise ValueError(f"{value!r} is not above 0 and at most 30 days; {advice}")
    return seconds


def format_limit(seconds: float) -> str:
    """Format a time limit for a study file: 90 is "90s", 600 is "10m"."""
    for unit, unit_seconds in reversed(UNIT_SECONDS.items()):
        if seconds >= unit_seconds and not seconds % unit_seconds:
            return f"{seconds / unit_seconds:g}{unit}"
    return f"{seconds:g}s"
