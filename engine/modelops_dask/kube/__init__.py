"""Communicate with Kubernetes. Only this package imports `kubernetes`, and late, because that takes half a
second.

    connect -> Cluster -> pods (why one is not ready), exec (run a command in one), watch (follow their state)

Nothing is installed here: helm does that.
"""
