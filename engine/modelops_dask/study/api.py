"""Studies in Python, for notebooks and scripts.

Study -> run(study), on this machine or by a Dask Client -> Result: its summary, its tables

    from modelops_dask.study import Study, run

    study = Study(entrypoint="models.sir/baseline", grid={"beta": [0.1, 0.2]}, replicates=10, bundle="sir")
    done = run(study)
    done.table("curve").to_pandas()

It uses the same code as `mops-helm study run` (drive.py), and the same store: each can continue what the
other started. Values files and presets belong to the command: this module takes Settings and a Shape.
"""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops_dask import bundle as bundles
from modelops_dask import executors
from modelops_dask.errors import BadInput
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store import results
from modelops_dask.store.checks import describe
from modelops_dask.store.files import Store
from modelops_dask.study import calls
from modelops_dask.study.check import N_TASKS
from modelops_dask.study.commands import find_bundle_of
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.study.importable import check_script, find_folder, find_import_path
from modelops_dask.study.progress import Progress
from modelops_dask.study.summary import Summary
from modelops_dask.workers import memory, remote
from modelops_dask.workers.local import local_cluster, machine

if TYPE_CHECKING:
    import pyarrow as pa
    from distributed import Client

_OPEN_MODEL = "model.function"  # replaced by the model passed to run()


class Study:
    """A study: the fields of study.yaml as arguments, `latin_hypercube` with an underscore.

    Values may be NumPy's. Paths are relative to the current folder. `model` is MODULE.FUNCTION, or a function
    of a module; otherwise pass it to run(). Raises BadDocument with every problem, and BadInput for a
    function that cannot be imported.

        >>> study = Study(entrypoint="models.sir/baseline", grid={"beta": [0.1, 0.2]}, replicates=10)
        >>> study.n_tasks
        20
    """

    def __init__(self, **content: Any) -> None:
        document = {
            "latin-hypercube" if name == "latin_hypercube" else name: value for name, value in content.items()
        }
        if callable(document.get("model")):
            document |= _name_function(document["model"], document.get("bundle"))
        self._content = _plain(document)
        self._is_open = not {"model", "entrypoint", "command"} & {*document}
        model = {"model": _OPEN_MODEL} if self._is_open else {}
        self.spec = spec.from_content(model | self._content, Path.cwd())

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Load a study.yaml, or ModelOps' study JSON. Raises BadDocument."""
        study = cls.__new__(cls)
        study.spec = spec.load(Path(path))
        study._content, study._is_open = study.spec.source, False
        return study

    def with_model(self, function: Callable[..., Any]) -> "Study":
        """This study with a function that is defined in a module.

        The module's folder is the bundle, unless the study names one. Raises BadInput for a function that
        cannot be imported.
        """
        content = self._content | {"name": self.spec.name} | _name_function(function, self.spec.bundle)
        if content.pop("entrypoint", None):
            content["scenario"] = self.spec.entrypoint.partition("/")[2]
        return Study(**content)

    @property
    def n_tasks(self) -> int:
        return self.spec.n_tasks

    def __repr__(self) -> str:
        return f"<Study {self.spec.name}: {self.n_tasks:,} tasks of {self.spec.entrypoint}>"


@dataclass(frozen=True)
class Result:
    """A study as its store has it after a run, even if another one was run into the store since."""

    summary: Summary
    study: Study | None = field(default=None, repr=False)  # None: the store's last request

    @property
    def ok(self) -> bool:
        """Whether every task ended ok, without conflicts."""
        return self.summary.exit_code == 0

    @property
    def _spec(self) -> spec.Spec | None:
        return self.study.spec if self.study else None

    @property
    def outputs(self) -> list[str]:
        """Names for table()."""
        with results.opened(self.summary.store, self._spec) as tables:
            return list(tables.outputs)

    def table(self, name: str | None = None) -> "pa.Table":
        """One output of all ok tasks; the name may be omitted if there is only one.

        Raises NoOutput.
        """
        with results.opened(self.summary.store, self._spec) as tables:
            return tables.output(name).table()


def run(
    study: Study | Mapping[str, Any] | str | Path,
    store: str | Path | None = None,
    *,
    model: Callable[..., Any] | None = None,
    client: "Client | None" = None,
    settings: Settings | None = None,
    shape: Shape | None = None,
    retry: Collection[str] = (),
    check: int = N_TASKS,
    redo: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Result:
    """Run the pending tasks of a study, and build its tables.

    Tasks that fail do not raise: see Result.ok and Result.summary. Facts that users should know, such as
    results from different environments, are warnings. If it is interrupted, calling it again continues the
    study. A script calls it below `if __name__ == "__main__":`, because worker processes import the script.

    Args:
        study: The study, its fields as a dict, or the path of a study.yaml.
        model: The function to call, which other processes must be able to import; see Study.
        store: A folder or a URL, out/NAME by default.
        client: Tasks run on its workers, which are not changed. Without it, they run on worker processes of
            this machine.
        settings: For local workers; by default from the MODELOPS_ variables.
        shape: Of local workers; by default one process for each CPU.
        retry: States whose tasks are tried again: "failed", "poisoned".
        redo: Tasks whose results are replaced: "executor=KIND", tasks as "SET/REPLICATE,...", or "all".
        check: Number of tasks to run again at the end, each alone in a new process; the result is
            Result.summary.self_check, and a difference is a warning.

    Raises:
        MopsError: AlreadyRunning, OtherStudy, Stopped, ClusterFailed or BadInput.
    """
    if not isinstance(study, Study):
        study = Study(**study) if isinstance(study, Mapping) else Study.load(study)
    study = study.with_model(model) if model is not None else study
    if study._is_open:
        raise BadInput("the study does not name a model: run(study, model=FUNCTION), or Study(model=...)")
    if client is None:
        check_script()
    settings, shape = settings or Settings.from_env(), shape or _whole_machine()
    for finding in study.spec.warnings:
        warnings.warn(str(finding), stacklevel=2)
    if client is not None:
        remote.check(client, study.spec.resources)  # before anything is written
    study_store = Store(str(store) if store else f"out/{study.spec.name}")
    reference = study.spec.bundle or find_bundle_of(study.spec)
    bundle = replace(bundles.fetch(reference, settings.bundles_cache_dir), program=study.spec.program)
    calls.check_call(study.spec, bundle, settings)
    if (call := calls.describe_call(bundle, study.spec.entrypoint)).other:
        warnings.warn(str(call), stacklevel=2)

    @contextmanager
    def connect() -> Iterator["Client"]:
        if client is not None:
            yield client
        else:
            with executors.create(settings):
                pass  # settings that no worker can use are reported here, before any is started
            with local_cluster(shape, settings, say=warnings.warn) as local_client:
                yield local_client

    watcher = Watcher(progress=on_progress, note=warnings.warn)
    task_memory = (
        memory.ask_workers(client, study.spec.resources) if client else memory.compute_local(shape, settings)
    )
    summary = drive(
        study.spec,
        bundle,
        study_store,
        connect,
        retry=retry,
        n_checks=check,
        redo=redo,
        memory=task_memory,
        watcher=watcher,
    )
    if summary.self_check and summary.self_check.different:
        warnings.warn("\n".join(describe(summary.self_check)), stacklevel=2)
    return Result(summary, study)


def _name_function(function: Callable[..., Any], bundle: Any) -> dict[str, Any]:
    """The fields of a study that name a function: model, and bundle unless one is given. Raises BadInput."""
    path, folder = find_import_path(function), find_folder(function)
    if folder and not bundle:
        bundle = str(bundles.find(folder, path))
    return {"model": path} | ({"bundle": bundle} if bundle else {})


def _whole_machine() -> Shape:
    cpus, memory_bytes = machine()
    return Shape(1, cpus, 1, memory_bytes)


def _plain(value: Any) -> Any:
    """Convert to JSON's types: NumPy's arrays and numbers to lists and numbers, paths to text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value) if isinstance(value, Path) else value
