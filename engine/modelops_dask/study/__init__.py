"""A study: what it asks for, its plan, its dispatch, its progress.

In Python: `from modelops_dask.study import Study, run` (api.py).
"""

from typing import Any

__all__ = ["Result", "Study", "run"]


def __getattr__(name: str) -> Any:
    """Of api.py, which is imported when it is asked for: workers need only single modules of this package."""
    if name in __all__:
        from modelops_dask.study import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
