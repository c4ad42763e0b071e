"""The conditions under which results were made: what may change their bytes, besides parameters and seed.

rows of parts -> fold.py counts them -> a line if they are not all the same
"""

from collections import Counter
from typing import NamedTuple


class Condition(NamedTuple):
    """Recorded with every attempt."""

    threads: int  # native code (BLAS, OpenMP); 0: not fixed
    environment: str  # a digest of the Python version and the packages
    reseeded: bool = False  # whether generators at module level of the model were seeded before each task


def describe_differences(conditions: Counter[Condition]) -> str:
    """Describe in a line how the conditions of one study's results differ; "" if they are all the same."""
    if len(conditions) < 2:
        return ""
    fields = [
        name for name in Condition._fields if len({getattr(condition, name) for condition in conditions}) > 1
    ]
    kinds = "; ".join(
        ", ".join(_describe(condition, fields))
        + (f" ({n_tasks:,} result{'' if n_tasks == 1 else 's'})" if n_tasks else " (from now on)")
        for condition, n_tasks in conditions.most_common()
    )
    names = " and ".join(_NAMES[name] for name in fields)
    effects = [_EFFECTS[name] for name in _EFFECTS if name in fields]
    return (
        f"Results of this study come from different {names}: {kinds}. {' '.join(dict.fromkeys(effects))} "
        "To make them comparable, run the whole study with the same values and image into another --store."
    )


_NAMES = {
    "threads": "numbers of native threads",
    "environment": "environments",
    "reseeded": "ways to seed generators",
}
_LAST_DIGITS = "This alone may change their last digits."
_EFFECTS = {
    "threads": _LAST_DIGITS,
    "environment": _LAST_DIGITS,
    "reseeded": "A model that creates a generator when it is imported draws different numbers.",
}


def _describe(condition: Condition, fields: list[str]) -> list[str]:
    descriptions = {
        "threads": f"{condition.threads or 'any number of'} thread{'' if condition.threads == 1 else 's'}",
        "environment": f"environment {condition.environment[:12] or 'unknown'}",
        "reseeded": f"{'' if condition.reseeded else 'not '}reseeded before each task",
    }
    return [descriptions[name] for name in fields]
