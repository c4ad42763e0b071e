"""Check that a store is what it must be, by other means than those that wrote it.

    study.json, spec.json, sets/ -> Tasks: what there is to do   (verify_tasks.py)
    parts/, every byte           -> Ledger: what became of it    (verify_parts.py)
    both, and results/           -> Findings of a Report         (verify_results.py)

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
from typing import Any

from modelops_dask.errors import BadInput
from modelops_dask.store.verify_parts import Ledger, Membership, read_parts
from modelops_dask.store.verify_results import check_results
from modelops_dask.store.verify_tasks import Report, Request, Store, Tasks, read_tasks


@dataclass(frozen=True)
class Sampled:
    """An ok task to be run again."""

    set: int
    replicate: int
    params: dict[str, Any]
    seed: int
    executor: str
    threads: int
    environment: str


Rerun = Callable[[Sampled], tuple[dict[str, bytes], str]]


def verify(store: str, sample: int = 0, rerun: Rerun | None = None, request: Request | None = None) -> Report:
    """Check a store, a folder or URL. BadInput when there is no study at all.

    `rerun` runs one of `sample` ok tasks again: its outputs and environment, or RuntimeError if it fails now.
    `request` is whose tasks to check, else the last one's; results/ is checked only if it is kept for these.
    """
    files, report = Store(store), Report(store)
    if "study.json" not in files.names(""):
        raise BadInput(f"{store} holds no study (no study.json)")
    membership = check_study(files, report)
    tasks = read_tasks(files, report, request)
    if tasks is None:
        return report
    ledger = read_parts(files, tasks, membership, report)
    states = Counter({"ok": 0, "failed": 0, "poisoned": 0, "pending": 0})
    for number, replicate in tasks.all():
        state = ledger.state(number, replicate)
        states[state] += 1
        if state == "pending":
            report.add("UNFINISHED", f"{number}/{replicate}", "has not ended: run the study again")
    report.tasks = dict(states)
    if report.tables:
        check_results(files, tasks, ledger, report)
    if sample and rerun:
        _rerun(files, tasks, ledger, report, sample, rerun)
    return report


def check_study(files: Store, report: Report) -> Membership:
    """study.json: an object with a bundle's digest, an entrypoint, the format and, since format 2, a uuid."""
    membership = Membership()
    try:
        study = json.loads(files.read("study.json"))
        report.bundle, report.entrypoint = study["bundle"], study["entrypoint"]
        whole = re.fullmatch(r"sha256:[0-9a-f]{64}", report.bundle) and study["format"] in (1, 2)
        if study["format"] == 2:
            membership.uuid, membership.upgraded = study["uuid"], study.get("upgraded") is True
            whole = whole and re.fullmatch(r"[0-9a-f]{32}", membership.uuid)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        report.add("STUDY", "study.json", "is damaged: restore it from a copy")
    accepted = {f"sha256:{name.removesuffix('.json')}" for name in files.names("accepted")}
    membership.bundles = accepted | {report.bundle}
    return membership


def _rerun(
    files: Store,
    tasks: Tasks,
    ledger: Ledger,
    report: Report,
    sample: int,
    rerun: Rerun,
) -> None:
    """Run some ok tasks again and compare bytes. The same store gives the same sample."""
    done = [task for task in tasks.all() if ledger.place[task][0] >= 0]
    for number, replicate in sorted(random.Random(report.bundle).sample(done, min(sample, len(done)))):
        file, group, at = ledger.place[number, replicate].tolist()
        part = files.parquet(f"parts/{ledger.files[file]}").read_row_group(group, use_threads=False)
        row = part.slice(at, 1).to_pylist()[0]
        asked = Sampled(
            *(number, replicate, json.loads(tasks.params[number]), row["seed"]),
            *(row.get("executor") or "", row.get("threads") or 0, row.get("environment") or ""),
        )
        task = f"{number}/{replicate}"
        report.rerun += 1
        try:
            found, environment = rerun(asked)
        except RuntimeError as error:
            report.add("RERUN", task, f"was ok and now ends otherwise: {error}")
            continue
        before = dict(row["outputs"])
        if different := sorted(n for n in found.keys() | before.keys() if found.get(n) != before.get(n)):
            message = f"returns other bytes as {', '.join(different)} when it is run again"
            if environment != asked.environment:
                message += f", in environment {environment[:12]} instead of {asked.environment[:12]}"
            report.add("RERUN", task, f"{message}: see Verifying in docs/studies.md")
