"""Memory: the pod's limit (cgroup.py), which task may start (admission.py), which must end (guard.py)."""
