"""Tasks in the worker's own process, with nothing between the worker and the model.

    Task -> wire function, imported once -> Outcome

State is shared by everything that runs in the process; a crash of the model is a crash of the worker; there
is no time limit, because a thread cannot be stopped; the model's output goes to the worker's. For debugging
and for models without state.
"""

import itertools
import logging
import os
import random
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import _exit, getpid  # a model may replace those of the module
from types import ModuleType, TracebackType

from modelops_dask import seeding
from modelops_dask.bundle import Bundle
from modelops_dask.environments import venv
from modelops_dask.errors import BadInput
from modelops_dask.executors import Executor, FileChanges, Outcome, Task, make_outcome, native_threads, runner
from modelops_dask.executors.messages import LOST_CONNECTION, START_FAILURE, TRANSIENT, Answer
from modelops_dask.executors.process import Runner
from modelops_dask.executors.warm import WarmExecutor
from modelops_dask.executors.wire import References
from modelops_dask.generators import ModelGenerators
from modelops_dask.settings import Settings

logger = logging.getLogger("distributed.modelops")

PERSONS = (KeyboardInterrupt,)  # not an answer of the model: the user may have pressed Ctrl-C


class DirectExecutor(Executor):
    """Calls the model in the calling thread.

    With more than one thread, it neither seeds generators nor resets the peak between tasks: both belong to
    the whole process.
    """

    def __init__(
        self, settings: Settings, threads: int = 1, echo: Callable[[bytes], object] | None = None
    ) -> None:
        """Prepare the executor; echo receives what programs print."""
        self._settings = settings
        # A new process inherits these, and tasks may change them before it starts.
        self._lone_runner = type("LoneRunner", (Runner,), {"VARIABLES": dict(os.environ), "UMASK": _umask()})
        self._pid = getpid()
        self._alone = threads == 1
        self._seeds = self._alone and settings.seed_globals
        if self._seeds:
            _have_dask_draw_elsewhere()
            seeding.expect_numpy()
        self._memory = runner.MemoryMeter(runner.Peak(resets=self._alone))
        self._turn = threading.Condition()
        self._running = 0
        self._id, self._numbers = uuid.uuid4().hex[:8], itertools.count(1)
        self._threads = native_threads()
        self._environment = venv.digest_of_process()
        self._references = References()
        self._bundle: Bundle | None = None
        self._reference = ""
        self._wire: runner.Wire | None = None
        self._import_seconds = 0.0
        self._generators: ModelGenerators | None = None  # of the bundle, if its study has them seeded
        self._programs: WarmExecutor | None = None  # runs tasks of studies with a command
        self._n_threads, self._echo = threads, echo
        logger.warning(
            "executor=direct: tasks share this process: its modules, globals, environment and random state; "
            "time limits of tasks are not enforced"
        )

    @property
    def limit(self) -> None:
        """None: it has no runners."""
        return None

    def run(self, task: Task) -> Outcome:
        """Run a task here. Raises BadInput if the bundle names no wire function."""
        return self.run_all([task])[0]

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks that differ only in params and seed, one after another.

        A program always has its own process: it runs as under isolated_warm.
        """
        if tasks[0].bundle.program:
            return self._warm_executor().run_all(tasks)
        try:
            wire = self._enter(tasks[0].bundle, tasks[0].entrypoint)
        except (BadInput, KeyboardInterrupt):
            raise
        except BaseException as error:
            failed = make_outcome(
                _failed_start(runner.failed_answer(error)),
                "",
                threads=self._threads,
                environment=self._environment,
                limit_bytes=tasks[0].limit_bytes,
            )
            return [failed] * len(tasks)
        try:
            return [
                make_outcome(
                    self._call(wire, task),
                    "",
                    threads=self._threads,
                    environment=self._environment,
                    limit_bytes=tasks[0].limit_bytes,
                    runner=self._id,
                    runner_task=next(self._numbers),
                )
                for task in tasks
            ]
        finally:
            self._leave()

    def run_alone(self, task: Task) -> Outcome:
        """Run a task in a new process of this interpreter, with limits of time and memory."""
        settings = replace(self._image_settings, max_process_reuse=1)
        with WarmExecutor(settings, limit=1, kind=self._lone_runner) as executor:
            return executor.run_alone(task)

    @property
    def _image_settings(self) -> Settings:
        """Settings for processes that use this interpreter."""
        return replace(self._settings, executor_environment="image", force_fresh_venv=False)

    def _warm_executor(self) -> WarmExecutor:
        with self._turn:
            if self._programs is None:
                self._programs = WarmExecutor(
                    self._image_settings, self._n_threads, self._echo, kind=self._lone_runner
                )
            return self._programs

    def start_seconds(self, bundle: Bundle) -> float:
        """Seconds that the import of the model took in this process; 0 if not known."""
        return self._import_seconds if self._bundle == bundle else 0.0

    def _call(self, wire: "runner.Wire", task: Task) -> runner.Answer:
        if self._seeds:
            seeding.seed_globals(task.seed)
        if self._generators:
            self._generators.seed(task.seed)
        try:
            answer = runner.call(
                wire, task.entrypoint, task.params, task.seed, self._memory, let_through=PERSONS
            )
        finally:
            self._end_copy()
        return _explain_missing_file(answer, task.bundle) if answer.reason == "FileNotFoundError" else answer

    def _end_copy(self) -> None:
        """End a child that a model forked: as a copy of the worker it would store results."""
        if getpid() != self._pid:
            _exit(LOST_CONNECTION)

    def pool(self) -> dict[str, int]:
        """Count only the processes of programs."""
        return self._programs.pool() if self._programs else {}

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """Nothing for models: tasks share the files with this process, and changes are not checked."""
        return self._programs.file_changes(bundle) if self._programs else FileChanges()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._programs:
            self._programs.__exit__(kind, error, trace)
        self._forget()

    def _enter(self, bundle: Bundle, entrypoint: str) -> "runner.Wire":
        """Return the wire function after preparing the process for its bundle.

        Two bundles may have modules of the same name, so they take turns in a process; so do two functions of
        a bundle.
        """
        reference = self._references.find(bundle, entrypoint)
        with self._turn:
            while self._running and (self._bundle, self._reference) != (bundle, reference):
                self._turn.wait()
            if (self._bundle, self._reference) != (bundle, reference):
                self._forget()
                self._bundle, self._reference, self._wire = bundle, reference, None
            if self._wire is None:
                started = time.monotonic()
                try:
                    # expect_numpy() was called when this began.
                    self._wire, self._generators = runner.load_model(
                        str(bundle.path), reference, False, bundle.reseeds and self._alone
                    )
                    self._import_seconds = time.monotonic() - started
                except runner.WireNotFound as error:
                    raise BadInput(f"bundle {bundle.origin or bundle.path}: {error}") from None
                finally:
                    self._end_copy()
            self._running += 1
            return self._wire

    def _leave(self) -> None:
        with self._turn:
            self._running -= 1
            if not self._running:
                self._turn.notify_all()

    def _forget(self) -> None:
        """Drop the modules of the previous bundle, which the imports of the next one would find."""
        if self._bundle is None:
            return
        tree = f"{self._bundle.path}/"
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(tree):
                del sys.modules[name]
        sys.path[:] = [path for path in sys.path if not f"{path}/".startswith(tree)]
        if self._generators:
            self._generators.close()
        self._bundle = self._wire = self._generators = None


def _failed_start(answer: Answer) -> Answer:
    """The answer for a model whose import failed."""
    return answer if answer.failure == TRANSIENT else answer._replace(failure=START_FAILURE)


def _explain_missing_file(answer: runner.Answer, bundle: Bundle) -> runner.Answer:
    """Add the absolute path of a relative path to the error, if the bundle has such a file."""
    paths = re.findall(r"'([^/'][^']*)'", answer.error.rpartition("FileNotFoundError")[2])
    own = next((path for path in paths if (bundle.path / path).exists()), None)
    if own is None:
        return answer
    # Without the folder, so that two attempts fail with exactly the same text.
    note = (
        f"The bundle has {own}, but executor direct keeps the worker's working directory. Open "
        "it relative to Path(__file__).parent, or choose another executor."
    )
    return answer._replace(error=f"{answer.error.rstrip()}\n{note}\n")


def _umask() -> int:
    """The umask of this process. It can only be read by setting it, so no other threads may run yet."""
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


def _have_dask_draw_elsewhere() -> None:
    """Give Dask's modules their own generator instead of the one behind the functions of `random`.

    Its threads measure each heartbeat by a sample (dask.sizeof), which would change the state of `random`
    during a task: results of tasks longer than half a second would differ from run to run.
    """
    shared, generator = seeding.SHARED_GENERATOR, random.Random()
    private = ModuleType("random", random.__doc__)
    for name, value in vars(random).items():
        is_shared = getattr(value, "__self__", None) is shared
        setattr(private, name, getattr(generator, name) if is_shared else value)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ("dask", "distributed", "tornado"):
            continue
        for member, value in list(vars(module).items()):
            if value is random:
                setattr(module, member, private)
            elif getattr(value, "__self__", None) is shared:  # from random import randint
                setattr(module, member, getattr(generator, value.__name__))
