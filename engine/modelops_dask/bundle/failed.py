"""Why a bundle cannot be had."""

from modelops_dask.bundle.reference import redact
from modelops_dask.errors import BadInput


class FetchFailed(BadInput):
    """A bundle cannot be fetched, unpacked or kept; `problem` says why. Passwords in either are left out."""

    def __init__(self, bundle: str, problem: str) -> None:
        self.bundle, self.problem = redact(bundle), redact(problem)
        super().__init__(self.bundle, self.problem)  # the arguments that pickle needs

    def __str__(self) -> str:
        return f"bundle {self.bundle}: {self.problem}"
