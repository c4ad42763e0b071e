"""The one tree of errors. Each keeps its facts as attributes, words them in str() and knows its exit status.

Exit 3 (finished with failed or poisoned tasks, or drift) is a result, not an error: it has no class here.
"""


class MopsError(Exception):
    """Something to tell a person, whole in str()."""

    exit_code = 1


class BadInput(MopsError):
    """What the person gave cannot be used: a file, a value, a flag."""

    exit_code = 2


class Stopped(MopsError):
    """The breaker ended a study; str() is its verdict."""

    exit_code = 4


class ClusterFailed(MopsError):
    """helm, Kubernetes or a Dask scheduler did not do what it was asked."""

    exit_code = 5
