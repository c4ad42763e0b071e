"""The error tree. Each error stores its facts as attributes, formats them in str() and has an exit status.

Exit status 3 (finished with failed or poisoned tasks, or drift) is a result, not an error: it has no class
here.
"""


class MopsError(Exception):
    """An error to show to the user; str() is the whole message."""

    exit_code = 1


class BadInput(MopsError):
    """Unusable input: a file, a value or a flag."""

    exit_code = 2


class Stopped(MopsError):
    """The circuit breaker ended a study; str() gives the reason."""

    exit_code = 4


class ClusterFailed(MopsError):
    """helm, Kubernetes or a Dask scheduler failed to do what was requested."""

    exit_code = 5
