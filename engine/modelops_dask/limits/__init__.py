"""Memory: what the pod has (cgroup.py), which task may begin (admission.py), which must end (guard.py)."""
