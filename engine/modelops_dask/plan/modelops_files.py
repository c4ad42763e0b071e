"""Files of ModelOps that are not studies, and fields of a study JSON that have no effect.

    a document's top level -> note_other_document() -> a finding, for a calibration, a job, a registry, ...
    a study JSON           -> note_differences()    -> warnings: targets, the time limit, names without effect

The table in docs/modelops.md lists the same files; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from modelops_dask.documents.quoting import quote_path
from modelops_dask.plan.document import NAME
from modelops_dask.plan.fields import Fields

STUDY_NAMES = (
    "model",
    "scenario",
    "parameter_sets",
    "sampling_method",
    "n_replicates",
    "outputs",
    "timeout",
    "metadata",
    "targets",
)
_SETTING = "executor.taskTimeoutSeconds"


@dataclass(frozen=True)
class OtherDocument:
    """A file of ModelOps that is not a study: its name, the fields that identify it, and advice."""

    name: str
    names: frozenset[str]  # a document with all of these fields
    advice: str


_CALIBRATION = (
    "searching for parameters is not supported. Run parameter sets as a study (sets, grid, latin-hypercube "
    "or sobol), or run the search in Python and call modelops_dask.study.run for each of its proposals"
)
# The first match in this order names the document.
OTHER_DOCUMENTS = (
    OtherDocument(
        "CalibrationSpec",
        frozenset({"algorithm", "target_data"}),
        _CALIBRATION,
    ),
    OtherDocument(
        "CalibrationJob",
        frozenset({"algorithm", "job_id"}),
        "searching for parameters is not supported. Run parameter sets as a study (sets, grid, "
        "latin-hypercube or "
        "sobol)",
    ),
    OtherDocument(
        "adaptive infrastructure",
        frozenset({"algorithm", "central_store"}),
        "it is not needed: searches for parameters run in Python (modelops_dask.study.run)",
    ),
    *(
        OtherDocument("CalibrationSpec", frozenset({"algorithm", name}), _CALIBRATION)
        for name in ("targets", "max_trials")
    ),
    OtherDocument(
        "SimJob",
        frozenset({"job_id", "bundle_ref"}),
        "a job is made from a study. Run the study JSON that it was made from; or list its tasks as "
        "sets: [{params: {…}, seed: …}, …], with `values` of a task's params as params",
    ),
    OtherDocument(
        "bundle registry",
        frozenset({"models", "targets", "version"}),
        "it describes the models of a bundle. Write a study of one of them: model, scenario and its sets",
    ),
    OtherDocument(
        "bundle manifest",
        frozenset({"models", "bundle_id"}),
        "it describes the models of a bundle. Write a study of one of them: model, scenario and its sets",
    ),
    OtherDocument(
        "workspace",
        frozenset({"apiVersion", "kind", "spec"}),
        "it describes a cluster: mops-helm values convert {file}",
    ),
)


def note_other_document(fields: Fields, raw: Mapping[str, object]) -> bool:
    """Record a document that is another file of ModelOps than a study, and return whether it is one."""
    if "parameter_sets" in raw:
        return False
    for document in OTHER_DOCUMENTS:
        if document.names <= raw.keys():
            advice = document.advice.replace("{file}", quote_path(fields.document.path))
            fields.note((), "NOT_A_STUDY", f"this is a {document.name} of ModelOps: {advice}")
            return True
    return False


def note_differences(fields: Fields, raw: Mapping[str, object]) -> None:
    """Record requests of a study JSON that are ignored, and a time limit that differs from ModelOps'.

    For a file that is refused, only errors are recorded.
    """
    targets = raw.get("targets")
    if targets is not None and not (
        isinstance(targets, list) and all(isinstance(item, str) for item in targets)
    ):
        fields.note(("targets",), "TYPE", "targets must be a list of names, or null")
    if fields.findings:
        return
    if targets:
        fields.note(
            ("targets", NAME),
            "TARGETS",
            "targets are stored with the study but not evaluated: no losses are computed. Compute them from "
            "the tables (docs/modelops.md)",
        )
    if raw.get("timeout") is None:
        fields.note(
            (),
            "TIME_LIMIT",
            f"no timeout, so a task is ended after {_SETTING}, by default 300 s; in "
            'ModelOps it is 1800 s. To keep that: "timeout": 1800',
        )
    unused = [name for name in raw if name not in STUDY_NAMES]
    if unused:
        message = f"{', '.join(unused)} has no effect; put notes for people under metadata"
        fields.note((unused[0], NAME), "NO_EFFECT", message)
