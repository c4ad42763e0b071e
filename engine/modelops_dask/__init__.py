"""Run simulation studies: executors, studies and stores, for worker images and laptops.

In Python: `from modelops_dask import Study, run` (study/api.py).
"""

from typing import Any

__all__ = ["Result", "Study", "run"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import the names of study/api.py on first use, because a worker needs few modules."""
    if name in __all__:
        from modelops_dask.study import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
