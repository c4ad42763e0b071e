"""Check a store by other means than those that wrote it.

    study.json, spec.json, sets/ -> Tasks: the tasks to run        (verify_tasks.py)
    redo/                        -> Redos: the tasks run again     (verify_redo.py)
    parts/, every byte           -> StoredAttempts: finished work  (verify_parts.py, verify_neutral.py)
    both, and results/           -> Defects in a Report            (verify_results.py)
    some tasks run again         -> Defects too                    (verify_sample.py)
    both                         -> replicates that are equal      (verify_replicates.py)

It shares only the errors with the rest of the engine, so that a mistake there is not repeated here. It reads
with Arrow alone and derives ids, seeds, digests and states from docs/store-format.md. It is slower for that
reason. Memory: a file of parts/ and a few hundred bytes per task.

Nothing is repaired, and no tasks run here: the caller passes a Rerunner that runs them.
"""

import json
import re
from collections import Counter
from collections.abc import Collection

from modelops_dask.errors import BadInput
from modelops_dask.store.verify_parts import Membership, read_parts
from modelops_dask.store.verify_redo import read_redos
from modelops_dask.store.verify_replicates import compare_replicates
from modelops_dask.store.verify_results import check_results
from modelops_dask.store.verify_sample import Rerunner, check_sample, check_self_checks
from modelops_dask.store.verify_tasks import Report, Request, StoreReader, read_tasks


def verify(
    store: str,
    sample: int = 0,
    rerunner: Rerunner | None = None,
    request: Request | None = None,
    *,
    deterministic: bool = False,
    volatile: Collection[str] = (),
    outputs: Collection[str] = (),
) -> Report:
    """Check a store, a folder or URL. Raises BadInput if there is no study.

    Args:
        rerunner: Runs `sample` ok tasks again, to compare their outputs (verify_sample.py).
        request: The request whose tasks to check; by default the last one. results/ is checked only if it
            belongs to it.
        deterministic: As the study file of that request states; by default that of the last one.
        volatile: Likewise.
        outputs: Likewise.
    """
    reader, report = StoreReader(store), Report(store)
    if "study.json" not in reader.names(""):
        raise BadInput(f"{store} has no study (no study.json)")
    membership = check_study(reader, report)
    tasks = read_tasks(reader, report, request)
    if tasks is None:
        return report
    if request:
        report.tables &= frozenset(outputs) == tasks.outputs
        tasks.deterministic, tasks.volatile = deterministic, frozenset(volatile)
        tasks.outputs = frozenset(outputs)
    redos = read_redos(reader, tasks, membership.format, report)
    ledger = read_parts(reader, tasks, membership, redos, report)
    states = Counter({"ok": 0, "failed": 0, "poisoned": 0, "pending": 0})
    for number, replicate in tasks.all():
        state = ledger.state(number, replicate)
        states[state] += 1
        if state == "pending":
            report.add("UNFINISHED", f"{number}/{replicate}", "has not finished: run the study again")
    report.tasks = dict(states)
    compare_replicates(reader, tasks, ledger, report)
    if report.tables:
        check_results(reader, tasks, ledger, report)
    check_self_checks(reader, tasks, ledger, report)
    if sample and rerunner:
        check_sample(reader, tasks, ledger, report, n_tasks=sample, rerunner=rerunner)
    return report


def check_study(reader: StoreReader, report: Report) -> Membership:
    """Check study.json: an object with a bundle's digest, an entrypoint, the format and, since format 2, a
    uuid.
    """
    membership = Membership()
    is_valid = False
    try:
        study = json.loads(reader.read("study.json"))
        report.bundle, report.entrypoint = study["bundle"], study["entrypoint"]
        is_valid = bool(re.fullmatch(r"sha256:[0-9a-f]{64}", report.bundle)) and study["format"] in (1, 2, 3)
        membership.format = study["format"]
        if study["format"] > 1:
            membership.uuid, membership.upgraded = study["uuid"], study.get("upgraded") is True
            is_valid = is_valid and bool(re.fullmatch(r"[0-9a-f]{32}", membership.uuid))
    except (ValueError, KeyError, TypeError):
        is_valid = False
    if not is_valid:
        report.add("STUDY", "study.json", "is damaged: restore it from a copy")
    accepted = {f"sha256:{name.removesuffix('.json')}" for name in reader.names("accepted")}
    membership.bundles = accepted | {report.bundle}
    return membership
