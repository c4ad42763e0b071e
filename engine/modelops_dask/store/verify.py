"""Check that a store is what it must be, by other means than those that wrote it.

    study.json, spec.json, sets/ -> Tasks: what there is to do   (verify_tasks.py)
    parts/, every byte           -> StoredAttempts: what was done (verify_parts.py)
    both, and results/           -> Defects in a Report          (verify_results.py)

Shares no code with the rest of the engine but the errors: a mistake there must not be made here again. It
reads with Arrow alone and derives ids, seeds, digests and states from docs/studies.md. It is slower for it.
Memory: a file of parts/ and a few hundred bytes a task.

Does not repair, and does not run tasks: its caller hands it a function that does.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from modelops_dask.errors import BadInput
from modelops_dask.store.verify_parts import Membership, StoredAttempts, read_parts
from modelops_dask.store.verify_results import check_results
from modelops_dask.store.verify_tasks import Report, Request, StoreReader, Tasks, read_tasks


@dataclass(frozen=True)
class Sampled:
    """An ok task to be run again."""

    set: int
    replicate: int
    params: dict[str, object]
    seed: int
    executor: str
    threads: int
    environment: str
    reseeded: bool  # whether the model's own generators were seeded before it


Rerun = Callable[[Sampled], tuple[dict[str, bytes], str]]


def verify(store: str, sample: int = 0, rerun: Rerun | None = None, request: Request | None = None) -> Report:
    """Check a store, a folder or URL. BadInput when there is no study at all.

    `rerun` runs one of `sample` ok tasks again: its outputs and environment, or RuntimeError if it fails now.
    `request` is whose tasks to check, else the last one's; results/ is checked only if it is kept for these.
    """
    reader, report = StoreReader(store), Report(store)
    if "study.json" not in reader.names(""):
        raise BadInput(f"{store} holds no study (no study.json)")
    membership = check_study(reader, report)
    tasks = read_tasks(reader, report, request)
    if tasks is None:
        return report
    ledger = read_parts(reader, tasks, membership, report)
    states = Counter({"ok": 0, "failed": 0, "poisoned": 0, "pending": 0})
    for number, replicate in tasks.all():
        state = ledger.state(number, replicate)
        states[state] += 1
        if state == "pending":
            report.add("UNFINISHED", f"{number}/{replicate}", "has not ended: run the study again")
    report.tasks = dict(states)
    if report.tables:
        check_results(reader, tasks, ledger, report)
    if sample and rerun:
        _rerun(reader, tasks, ledger, report, sample, rerun)
    return report


def check_study(reader: StoreReader, report: Report) -> Membership:
    """study.json: an object with a bundle's digest, an entrypoint, the format and, since format 2, a uuid."""
    membership = Membership()
    is_valid = False
    try:
        study = json.loads(reader.read("study.json"))
        report.bundle, report.entrypoint = study["bundle"], study["entrypoint"]
        is_valid = bool(re.fullmatch(r"sha256:[0-9a-f]{64}", report.bundle)) and study["format"] in (1, 2)
        if study["format"] == 2:
            membership.uuid, membership.upgraded = study["uuid"], study.get("upgraded") is True
            is_valid = is_valid and bool(re.fullmatch(r"[0-9a-f]{32}", membership.uuid))
    except (ValueError, KeyError, TypeError):
        is_valid = False
    if not is_valid:
        report.add("STUDY", "study.json", "is damaged: restore it from a copy")
    accepted = {f"sha256:{name.removesuffix('.json')}" for name in reader.names("accepted")}
    membership.bundles = accepted | {report.bundle}
    return membership


def _rerun(
    reader: StoreReader,
    tasks: Tasks,
    ledger: StoredAttempts,
    report: Report,
    sample: int,
    rerun: Rerun,
) -> None:
    """Run some ok tasks again and compare bytes. The same store gives the same sample."""
    ok_tasks = [task for task in tasks.all() if ledger.place[task][0] >= 0]
    for number, replicate in sorted(
        random.Random(report.bundle).sample(ok_tasks, min(sample, len(ok_tasks)))
    ):
        file, group, row_number = ledger.place[number, replicate].tolist()
        part = reader.parquet(f"parts/{ledger.files[file]}").read_row_group(group, use_threads=False)
        row = part.slice(row_number, 1).to_pylist()[0]
        sampled = Sampled(
            set=number,
            replicate=replicate,
            params=json.loads(tasks.params[number]),
            seed=row["seed"],
            executor=row.get("executor") or "",
            threads=row.get("threads") or 0,
            environment=row.get("environment") or "",
            reseeded=row.get("reseeded") is True,
        )
        task = f"{number}/{replicate}"
        report.rerun += 1
        try:
            outputs, environment = rerun(sampled)
        except RuntimeError as error:
            report.add("RERUN", task, f"was ok and now ends otherwise: {error}")
            continue
        stored_outputs = dict(row["outputs"])
        names = outputs.keys() | stored_outputs.keys()
        if different := sorted(name for name in names if outputs.get(name) != stored_outputs.get(name)):
            message = f"returns other bytes as {', '.join(different)} when it is run again"
            if environment != sampled.environment:
                message += f", in environment {environment[:12]} instead of {sampled.environment[:12]}"
            report.add("RERUN", task, f"{message}: see Verifying in docs/studies.md")
