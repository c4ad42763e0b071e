"""Programs that run in the pods of a release, each started by name: `python -m modelops_dask.<name>`.

The chart starts init (the first process of a container), check (`helm test`) and driver (a study's Job); the
command runs ask in a scheduler's pod. The names are an interface: see docs/architecture.md.
"""
