"""When to give up: a run that only loses workers, or in which no task has enough memory, is stopped.

deaths and completions -> Breaker -> Stopped (exit status 4), with the observations

It counts, in a row without a completed task in between, deaths of workers that ran a single task, and batches
that broke although their worker lived. Deaths of larger batches do not count: each is halved, so they lead to
single ones. Tasks that ran out of memory, alone and with all memory of a pod, stop the run only while no task
of the study has ever completed: later they are poisoned, and the others continue.
"""

from dataclasses import dataclass

from modelops_dask.errors import Stopped
from modelops_dask.shape import MIB
from modelops_dask.study.batch import Failed

BROKEN_IN_A_ROW = 3
DEATHS_IN_A_ROW = 10  # five tasks that kill, at the end of a study when nothing else is left
DRIVER_MEMORY = "studies.driver.resources.requests.memory"
TABLES_BYTES = 4 * 2**30  # tables of 6 million rows were written with this much, but not with half of it
DEATHS_AT_FIRST = 3  # while no task has ever completed; also for memory


@dataclass
class OutOfMemory(Stopped):
    """No task fits. Bytes are those of one task: its limit, and what to try next.

    `remedy` is the advice with values, from code that knows the shape of the workers. `evidence` is that of
    the last task, `peak_bytes` the highest peak of a task; 0: not known.
    """

    tasks: int
    last: str  # SET/REPLICATE
    limit_bytes: int
    remedy: str = ""
    evidence: str = ""
    peak_bytes: int = 0

    @property
    def needed_bytes(self) -> int:
        """More than the limit: how much more is not known, because a task ends before it shows."""
        return max(2 * self.limit_bytes, min(4 * self.limit_bytes, 2048 * MIB))

    def __str__(self) -> str:
        limit_text = (
            f"the {self.limit_bytes // MIB:,} MiB that a worker has for one task" if self.limit_bytes else ""
        )
        last = f'The last was task {self.last}: "{self.evidence}".' if self.evidence else ""
        peak_text = f" None held more than {self.peak_bytes // MIB:,} MiB." if self.peak_bytes else ""
        return (
            f"Stopped: no task completed, and {self.tasks} ran out of memory, each alone and with "
            f"{limit_text or 'all that a worker has'}. "
            f"{last or f'The last was task {self.last}.'}{peak_text}\n"
            f"{self.remedy or 'Give workers more memory (mops-helm preset show memory-heavy).'}"
        )


@dataclass
class CannotFit(Stopped):
    """Reported before anything runs: all measured tasks held more than a task can have. Bytes are those of
    one task; `remedy` is as above.
    """

    tasks: int  # measured
    least_bytes: int
    limit_bytes: int
    needed_bytes: int
    remedy: str = ""

    def __str__(self) -> str:
        return (
            f"Stopped before any task ran: each of the {self.tasks:,} tasks that were measured held "
            f"{self.least_bytes // MIB:,} MiB or more, but a worker has {self.limit_bytes // MIB:,} MiB for "
            f"one task. If the remaining tasks need less, delete profile.json in the store.\n{self.remedy}"
        )


@dataclass
class StoreReplaced(Stopped):
    """The store was deleted while a run used it, and possibly created again by another."""

    store_url: str

    def __str__(self) -> str:
        return (
            f"Stopped: {self.store_url} was deleted during this run, so its results are lost: "
            "a store there now belongs to another study. Run the study again with another "
            "--store."
        )


@dataclass
class NoWorkers(Stopped):
    """No worker was available. `remedy` is the reason with advice, from code that sees the pods."""

    seconds: float
    pending: int = 0  # 0: not known
    remedy: str = ""

    def __str__(self) -> str:
        pending = f", and {self.pending:,} tasks are pending" if self.pending else ""
        return (
            f"Stopped: no worker was available for {self.seconds:,.0f} seconds{pending}.\n"
            f"{self.remedy or 'Run the same command to continue.'}"
        )


@dataclass
class TablesNeedMemory(Stopped):
    """The previous run was killed while it merged parts or wrote tables. `memory_bytes` is its limit, 0 if
    not known; `remedy` is as above.
    """

    phase: str
    memory_bytes: int = 0
    remedy: str = ""

    @property
    def suggested_memory(self) -> str:
        """The memory to try next, as a Kubernetes quantity."""
        return f"{max(TABLES_BYTES, 2 * self.memory_bytes) // MIB}Mi"

    @property
    def explanation(self) -> str:
        """What happened, in two sentences."""
        doing = "merged stored results" if self.phase == "merging" else "wrote the tables"
        limit = f" (it had {self.memory_bytes // MIB:,} MiB)" if self.memory_bytes else ""
        return (
            f"The previous run was killed while it {doing}, probably for lack of memory{limit}. "
            "Results are stored; the tables need more memory."
        )

    def __str__(self) -> str:
        return f"Stopped: {self.explanation}\n{self.remedy or 'Run it again with more memory.'}"


class Breaker:
    """Raises Stopped; a completed task resets it."""

    def __init__(self, completed_before: bool = False) -> None:
        self._ever_completed = completed_before
        self._deaths = self._restarts = self._broken = self._memory_deaths = 0
        self._limit_bytes = self._peak_bytes = 0

    def record_completion(self) -> None:
        self._ever_completed = True
        self._deaths = self._restarts = self._broken = 0

    def record_out_of_memory(self, task_name: str, failed: Failed) -> None:
        """Record that a task (SET/REPLICATE) ran out of memory with all available memory."""
        self._memory_deaths += 1
        self._limit_bytes = max(self._limit_bytes, failed.limit_bytes, failed.peak_bytes)
        self._peak_bytes = max(self._peak_bytes, failed.peak_bytes)
        if self._memory_deaths >= DEATHS_AT_FIRST and not self._ever_completed:
            raise OutOfMemory(
                tasks=self._memory_deaths,
                last=task_name,
                limit_bytes=self._limit_bytes,
                evidence=failed.evidence,
                peak_bytes=self._peak_bytes,
            )

    def record_death(self, task_name: str, workers: int, advice: str = "") -> None:
        """Record that a worker died of one task (SET/REPLICATE).

        A node may end with all its workers, so their number counts. `advice` is what to do, if the cause is
        known.
        """
        self._deaths += 1
        limit = max(DEATHS_IN_A_ROW if self._ever_completed else DEATHS_AT_FIRST, 2 * workers)
        if self._deaths >= limit:
            advice = advice or (
                "Either the model kills its process, or a worker has too little memory for one task: try "
                "fewer processes, or more memory per process (mops-helm preset show memory-heavy)."
            )
            raise Stopped(
                f"Stopped: {self._deaths} worker processes died in a row, each running a single "
                f"task, and no task completed in between. The last was task {task_name}.\n{advice}"
            )

    def record_restart(self, workers: int, advice: str) -> None:
        """Record that a worker process was restarted for lack of memory without a task being the cause."""
        self._restarts += 1
        if self._restarts >= max(DEATHS_IN_A_ROW, 2 * workers):
            raise Stopped(
                f"Stopped: {self._restarts} times in a row, a worker process was restarted "
                f"because it held too much memory itself, and no task completed in between.\n{advice}"
            )

    def record_broken_batch(self, error: BaseException) -> None:
        """Record that a batch could not be run or stored."""
        self._broken += 1
        if self._broken >= BROKEN_IN_A_ROW:
            raise Stopped(
                f"Stopped: {self._broken} batches in a row could not be run or stored. "
                f"The last: {type(error).__name__}: {error}"
            ) from error
