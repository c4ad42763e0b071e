"""From what a person typed to an experiment, and what is kept of it.

SPEC, --bundle, Workers -> worker processes on this machine -> Experiment -> a folder: diagnosis.json,
observations.parquet (a row for each run of a task), reproduce.py (where a polluter was found)

Prints nothing, but tells `say`: commands print.
"""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from modelops_dask import venv
from modelops_dask.bundle import Bundle
from modelops_dask.diagnose import arms, diagnose, workers
from modelops_dask.diagnose.result import Diagnosis, Observation
from modelops_dask.errors import BadInput
from modelops_dask.signals import stop_on_signals
from modelops_dask.study import packages, spec
from mops_helm import studies, writing
from mops_helm.questions import Trial
from mops_helm.studies import Workers
from mops_helm.values import layers, presets

SCRIPT = "reproduce.py"


@dataclass(frozen=True)
class Experiment:
    """What was diagnosed, and what came of it. `python` is the one that ran the model."""

    study: spec.Spec
    bundle: Bundle
    found: Diagnosis
    python: Path


def folder_for(study: spec.Spec, given: Path | None) -> Path:
    """Where what comes of it is to be kept, by default out/NAME-diagnosis. BadInput when nothing can be."""
    folder = given or Path("out", f"{study.name}-diagnosis")
    if why := writing.refusal(folder):
        raise BadInput(f"{folder}: {why}")
    return folder


def run(
    study: spec.Spec, given: str | None, on: Workers, say: Callable[[str], object], **asked: Any
) -> Experiment:
    """Diagnose a study here. `asked` is passed on to diagnose(). BadInput, ClusterFailed."""
    arms.chosen(asked.get("arms", ()))  # what cannot be run is said before any worker is started
    bundle = studies.with_packages(
        studies.store_of(study, None), studies.bundle_of(study, given, on.settings)
    )
    for note in packages.notes(bundle, on.settings):
        say(note)
    stop = threading.Event()
    with stop_on_signals(stop.set), workers(on.shape, on.settings, on.dask_config, on.env) as client:
        found = diagnose(
            client,
            study,
            bundle,
            on.settings,
            threads=on.shape.threads,
            say=say,
            stopped=stop.is_set,
            **asked,
        )
    return Experiment(study, bundle, found, venv.environment(bundle, on.settings).python)


def keep(done: Experiment, folder: Path) -> None:
    """Write what came of it into a folder; an earlier one is replaced. BadInput when it cannot be written."""
    polluter = done.found.polluter
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "diagnosis.json").write_text(json.dumps(done.found.as_json(), indent=2) + "\n", "utf-8")
        _write_rows(done.found.observations, folder / "observations.parquet")
        (folder / SCRIPT).unlink(missing_ok=True)
        if polluter and polluter.script:
            (folder / SCRIPT).write_text(polluter.script, "utf-8")
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: {error.strerror or error}") from None


def _write_rows(rows: Sequence[Observation], path: Path) -> None:
    """A row for each run of a task, in the order of the trials."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, whole = pa.string(), pa.int64()
    types = {"seed": pa.uint64(), "seconds": pa.float64(), "outputs": pa.map_(text, text)}
    types |= dict.fromkeys(("trial", "lane", "position", "peak_bytes"), whole)
    schema = pa.schema([(each.name, types.get(each.name, text)) for each in fields(Observation)])
    listed = [{**vars(row), "outputs": list(row.outputs.items())} for row in rows]
    pq.write_table(pa.Table.from_pylist(listed, schema), path)


def trial(found: Diagnosis) -> Trial:
    """What to use meanwhile as a command has it: the preset if the values are its, and --set for the rest."""
    preset = found.values.get("preset", "")
    own = layers.leaves(presets.find(preset).values) if preset else {}
    more = [(name, value) for name, value in layers.leaves(found.values).items() if own.get(name) != value]
    if not preset and "executor" in found.values:  # or the release's preset would bind what is set
        more.insert(0, ("preset", ""))
    words = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in more]
    return Trial(preset, tuple(f"{name}={word}" for name, word in words))
