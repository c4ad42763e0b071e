"""`--preload modelops_dask.worker`, in charts and scripts of every version: workers/runtime.py."""

from modelops_dask.workers.runtime import *  # noqa: F403
