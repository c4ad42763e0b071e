"""A diagnosis on this machine, and its files.

    SPEC, --bundle, Workers -> worker processes on this machine -> Diagnosis -> a folder:
    diagnosis.json, observations.parquet (a row for each run of a task), "reproduce.py" (if there is a
        polluter)

Nothing is printed here: messages are passed to `say`. In the cluster: pod_diagnosis.py.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from modelops_dask.bundle import Bundle
from modelops_dask.diagnose import diagnose, workers
from modelops_dask.diagnose.result import Diagnosis, Observation
from modelops_dask.diagnose.trials import arms
from modelops_dask.environments import venv
from modelops_dask.errors import BadInput
from modelops_dask.plan.spec import Spec
from modelops_dask.signals import stop_on_signals
from modelops_dask.study import packages
from mops_helm import output_file
from mops_helm.diagnose.questions import PresetTrial
from mops_helm.study import studies
from mops_helm.study.studies import Workers
from mops_helm.values import presets
from mops_helm.values.tree import flatten_dotted

SCRIPT = "reproduce.py"
Say = Callable[[str], None]


@dataclass(frozen=True)
class ExperimentOptions:
    """How to run and compare the tasks of a study. The fields are keywords of the engine's diagnose()."""

    tasks: int
    repeats: int
    arms: Sequence[str]  # names; () for all
    budget_seconds: int
    seed: int


@dataclass(frozen=True)
class StudyDiagnosis:
    """A diagnosis and its subject. `python` is the interpreter that ran the model."""

    study: Spec
    bundle: Bundle
    diagnosis: Diagnosis
    python: Path


@dataclass(frozen=True)
class WrittenFiles:
    """The written files of a diagnosis. `folder` is None if it could not be written; `errors` explain why."""

    folder: Path | None
    errors: tuple[BadInput, ...]


def choose_folder(study: Spec, folder: Path | None) -> Path:
    """The folder for the files of a diagnosis, by default out/NAME-diagnosis. Raises BadInput if it cannot be
    written.
    """
    folder = folder or Path("out", f"{study.name}-diagnosis")
    if reason := output_file.find_refusal(folder):
        raise BadInput(f"{folder}: {reason}")
    return folder


def diagnose_here(
    study: Spec, bundle: str | None, workers_here: Workers, options: ExperimentOptions, say: Say
) -> StudyDiagnosis:
    """Diagnose a study with worker processes on this machine. Raises BadInput, ClusterFailed."""
    arms.select_arms(options.arms)  # an unknown arm is refused before any worker starts
    settings, shape = workers_here.settings, workers_here.local_shape
    model = studies.add_packages(
        studies.open_store(study, None), studies.fetch_bundle(study, bundle, settings), settings
    )
    for note in packages.notes(model, settings):
        say(note)
    stop = threading.Event()
    with (
        stop_on_signals(stop.set),
        workers(shape, settings, workers_here.dask_config, workers_here.env) as client,
    ):
        diagnosis = diagnose(
            client,
            study,
            model,
            settings,
            tasks=options.tasks,
            repeats=options.repeats,
            arms=options.arms,
            budget_seconds=options.budget_seconds,
            seed=options.seed,
            threads=shape.threads,
            say=say,
            stopped=stop.is_set,
        )
    return StudyDiagnosis(study, model, diagnosis, venv.environment(model, settings).python)


def write_files(
    result: StudyDiagnosis, folder: Path, texts: Mapping[Path | None, Callable[[], str]], say: Say
) -> WrittenFiles:
    """Write the folder of a diagnosis, and `texts` to the files that are their keys (None: not written).

    After an error the other files are still written, because the experiment took minutes.
    """
    written_folder: Path | None = folder
    errors: list[BadInput] = []
    try:
        write_diagnosis(result, folder)
    except BadInput as error:
        written_folder = None
        errors.append(error)
    for path, render in texts.items():
        if path:
            try:
                output_file.write_file(path, render().encode())
                say(f"{path}: written")
            except BadInput as error:
                errors.append(error)
    return WrittenFiles(written_folder, tuple(errors))


def write_diagnosis(result: StudyDiagnosis, folder: Path) -> None:
    """Write the files of a diagnosis to a folder, replacing an earlier one. Raises BadInput if that fails."""
    diagnosis = result.diagnosis
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "diagnosis.json").write_text(json.dumps(diagnosis.as_json(), indent=2) + "\n", "utf-8")
        _write_rows(diagnosis.observations, folder / "observations.parquet")
        (folder / SCRIPT).unlink(missing_ok=True)
        if diagnosis.polluter and diagnosis.polluter.script:
            (folder / SCRIPT).write_text(diagnosis.polluter.script, "utf-8")
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: {error.strerror or error}") from None


def _write_rows(observations: Sequence[Observation], path: Path) -> None:
    """A row for each run of a task, in the order of the trials."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, whole = pa.string(), pa.int64()
    types = {"seed": pa.uint64(), "seconds": pa.float64(), "outputs": pa.map_(text, text)}
    types |= dict.fromkeys(("trial", "lane", "position", "peak_bytes"), whole)
    schema = pa.schema([(column.name, types.get(column.name, text)) for column in fields(Observation)])
    rows = [{**vars(run), "outputs": list(run.outputs.items())} for run in observations]
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def make_trial(diagnosis: Diagnosis) -> PresetTrial:
    """The values of a diagnosis for a command: the preset if it matches, and --set for other values."""
    preset = diagnosis.values.get("preset", "")
    of_preset = flatten_dotted(presets.find(preset).values) if preset else {}
    changes = [
        (name, value)
        for name, value in flatten_dotted(diagnosis.values).items()
        if of_preset.get(name) != value
    ]
    if not preset and "executor" in diagnosis.values:  # otherwise the release's preset would override them
        changes.insert(0, ("preset", ""))
    texts = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in changes]
    return PresetTrial(preset, tuple(f"{name}={text}" for name, text in texts))
