"""`from modelops_dask.study import spec`, as programs of 0.1.0 write it: plan/spec.py."""

from modelops_dask.plan.spec import *  # noqa: F403
