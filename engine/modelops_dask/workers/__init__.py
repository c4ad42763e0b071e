"""Dask workers: the preload, local and remote clusters, and the end of a worker pod.

    runtime.py: the preload, which gives a worker process its Runtime
    local.py: a cluster on this machine;   remote.py: an existing scheduler
    drain.py: what a worker pod does before it ends

Batches are chosen and sent in study/.
"""
