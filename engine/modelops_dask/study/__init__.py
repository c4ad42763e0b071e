"""Studies: dispatch, progress, summary.

In Python: `from modelops_dask.study import Study, run` (api.py).
"""

from typing import Any

__all__ = ["Result", "Study", "run"]


def __getattr__(name: str) -> Any:
    """Import names of api.py on demand: workers need only single modules of this package."""
    if name in __all__:
        from modelops_dask.study import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
