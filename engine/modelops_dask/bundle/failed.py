"""The error for a bundle that is not available."""

from modelops_dask.bundle.reference import redact
from modelops_dask.errors import BadInput


class FetchFailed(BadInput):
    """A bundle cannot be fetched, unpacked or stored; `problem` says why. Passwords are removed from both."""

    def __init__(self, bundle: str, problem: str) -> None:
        self.bundle, self.problem = redact(bundle), redact(problem)
        super().__init__(self.bundle, self.problem)  # the arguments that pickle needs

    def __str__(self) -> str:
        return f"bundle {self.bundle}: {self.problem}"
