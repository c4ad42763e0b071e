"""Dask workers: what makes one a ModelOps worker, clusters here and elsewhere, and how a worker pod ends.

runtime.py: the preload, which gives a worker process its Runtime
local.py: a cluster on this machine;   remote.py: a scheduler that is there already
drain.py: what a worker pod does before it ends

Does not choose what runs: study/ sends batches.
"""
