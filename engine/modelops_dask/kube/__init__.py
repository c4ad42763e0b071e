"""Talk to Kubernetes. The only package that imports `kubernetes`, and late: that takes half a second.

    connect -> Cluster -> pods (why one is not ready), exec (a command in one), watch (what becomes of them)

Does not install anything: helm does.
"""
