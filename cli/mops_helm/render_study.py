"""Functions that return what the study commands print.

`table` is for people, `json` and `yaml` are the same facts for programs.
"""

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelops_dask.store.fold import Failure
from modelops_dask.store.results import Tables
from modelops_dask.store.tables import as_table
from modelops_dask.store.verify_tasks import Report
from modelops_dask.study.plan import Plan
from modelops_dask.study.presence import Driver
from modelops_dask.study.progress import Progress
from modelops_dask.study.spec import Spec
from modelops_dask.study.summary import Summary, fields
from mops_helm.forecast import Forecast
from mops_helm.progress import PHASES, a_second, duration
from mops_helm.render import data
from mops_helm.studies import Tried

MIB = 1024 * 1024
PREVIEW_ROWS = 5
PREVIEW_COLUMNS = 8
SHOWN_FAILURES = 10
SHOWN_WARNINGS = 10
SHOWN_NAMES = 3
# What no measurement of models has in it.
PROCESS_A_TASK = {"cold": "and what the model imports", "isolated_fork": "a fork of one that imported it"}
UNMEASURED_TASKS = 1000  # more than these should not be a leap in the dark


def plan(spec: Spec, bundle: str, store: str, expected: Forecast | None, form: str) -> str:
    """What a study asks for, and what it will take."""
    fields: dict[str, Any] = {
        "study": spec.name,
        "entrypoint": spec.entrypoint,
        "sets": spec.n_sets,
        "replicates": spec.replicates,
        "tasks": spec.n_tasks,
        "bundle": bundle,
        "store": store,
    }
    if form != "table":
        warnings = [asdict(finding) for finding in spec.warnings]
        return data(fields | {"expected": _expected_fields(expected), "warnings": warnings}, form)
    fields["bundle"] = short(bundle) if bundle else "none"
    fields |= _expected_words(expected) if expected else {}
    return "\n".join(
        f"{name:<12}{value:,}" if isinstance(value, int) else f"{name:<12}{value}"
        for name, value in fields.items()
    )


def warnings(spec: Spec) -> Iterator[str]:
    """A line for each place of the study file that may not mean what it is read as."""
    for finding in spec.warnings[:SHOWN_WARNINGS]:
        yield finding.text(spec.path)
    if (more := len(spec.warnings) - SHOWN_WARNINGS) > 0:
        yield f"{spec.path}: {more:,} more warnings like these"


def pilot_advice(spec: Spec, expected: Forecast | None) -> str:
    """What to do before a large study of which nothing was measured; "" for all others."""
    if expected or spec.n_tasks <= UNMEASURED_TASKS:
        return ""
    command = f"mops-helm study plan {shlex.quote(str(spec.path))} --pilot 20"
    return (
        f"{spec.n_tasks:,} tasks, and nothing is known yet of the time and memory that one takes.\n"
        f"  {command}\n"
        "runs 20 of them first, and keeps their results. To find a few good parameter sets, rather than map "
        "them all,\nan adaptive method needs fewer tasks: it chooses sets by the results of those before."
    )


def _expected_words(expected: Forecast) -> dict[str, str]:
    estimate = expected.estimate
    profile = estimate.profile
    words = {
        "time": f"about {duration(estimate.seconds)}, {estimate.side_by_side} tasks side by side, "
        f"{duration(profile.mean_seconds)} each (mean of {profile.tasks:,}, {profile.executor})"
    }
    here = expected.here
    if here.side_by_side != estimate.side_by_side:
        words["here"] = f"about {duration(here.seconds)}, {here.side_by_side} side by side on this machine"
    if expected.executor in PROCESS_A_TASK:
        words["besides"] = (
            f"the process that {expected.executor} starts for each task ({PROCESS_A_TASK[expected.executor]})"
        )
    if not estimate.needed_bytes:
        return words
    wanted, limit = estimate.needed_bytes // MIB, estimate.limit_bytes // MIB
    words["memory"] = f"{wanted:,} MiB for a task (the largest of these, and a margin); it has {limit:,} MiB"
    if estimate.fits:
        words["preset"] = "this shape fits"
    elif expected.preset:
        words["preset"] = f"--preset {expected.preset}"
    else:
        words["preset"] = "none has so much; raise workers.memoryPerProcess"
    return words


def _expected_fields(expected: Forecast | None) -> dict[str, Any] | None:
    """Null while nothing was measured."""
    if expected is None:
        return None
    estimate = expected.estimate
    return {
        "seconds": round(estimate.seconds, 3),
        "side_by_side": estimate.side_by_side,
        "seconds_here": round(expected.here.seconds, 3),
        "side_by_side_here": expected.here.side_by_side,
        "task_seconds": round(estimate.profile.mean_seconds, 6),
        "task_bytes": estimate.needed_bytes,
        "task_limit_bytes": estimate.limit_bytes,
        "fits": estimate.fits,
        "preset": expected.preset,
        "measured_tasks": estimate.profile.tasks,
    }


def tasks(planned: Plan, form: str) -> Iterator[str]:
    """A line per task, as it is made: there may be millions."""
    rows = planned.tasks([(0, planned.n_sets * planned.replicates)])
    if form == "table":
        yield f"{'task':<12}{'seed':<22}{'param_id':<14}params"
        for task in rows:
            name = f"{task.set}/{task.replicate}"
            yield f"{name:<12}{task.seed:<22}{task.param_id[:12]:<14}{_json(task.params)}"
        return
    before = "["
    for task in rows:
        fields = {name: getattr(task, name) for name in ("set", "replicate", "param_id", "seed", "params")}
        if form == "yaml":  # of which JSON is a part
            yield f"- {_json(fields)}"
        else:
            yield before + _json(fields)
            before = ","
    if form == "json":
        yield "[]" if before == "[" else "]"
    elif not planned.n_tasks:
        yield "[]"


def summary(found: Summary, form: str, flags: str = "") -> str:
    """Tasks by state, what the run did, failures with the command that reproduces each, where the results
    are.

    `flags` are those of the command that chose the workers, for the commands that are suggested.
    """
    if form != "table":
        return data(_summary_fields(found, flags), form)
    lines = [f"Study in {short(found.store)}: {found.total:,} tasks of {found.entrypoint}"]
    lines += [f"  {state:<9}{count:>14,}" for state, count in found.counts.items() if count or state == "ok"]
    if found.driver:
        lines.append(driver(found.driver))
    if ran := found.ran:
        lines.append(
            f"This run: {ran.ended_here:,} tasks in {duration(ran.seconds)}, {a_second(ran.rate)}"
            + (f", peak memory of a task {ran.peak_bytes / MIB:,.0f} MiB" if ran.peak_bytes else "")
        )
        lines += [
            f"{count:,} tasks that ended ok have an output {name!r} of 0 bytes"
            for name, count in ran.empty[:SHOWN_FAILURES]
        ]
        lines += files_written(ran)
    if found.failures:
        lines.append("Not ok, by reason, and how to see one:")
        for failure in found.failures[:SHOWN_FAILURES]:
            lines.append(f"  {failure.count:>9,}  {failure.state:<9} {failure.why}")
            lines.append(f"             {reproduce(found, failure, flags)}")
        if more := len(found.failures) - SHOWN_FAILURES:
            lines += [f"  and {more:,} more reasons (-o json)"] if more > 0 else []
    if found.hint:
        lines.append(found.hint)
    if found.conflicts:
        shown = ", ".join(f"{s}/{r}" for s, r in found.conflicts[:5])
        lines.append(
            f"{len(found.conflicts):,} tasks have two results that differ, such as {shown}: the model's "
            "output depends on more than its parameters and seed"
        )
    lines += [f"Passed over: {short(found.store)}/parts/{name}: {why}" for name, why in found.skipped.items()]
    lines += filter(None, [found.mixed, found.problem])
    if found.results:
        lines.append("Results:")
        lines += [f"  {short(path)}" for path in found.results]
    return "\n".join(lines)


def files_written(ran: Progress) -> list[str]:
    """A line on the files that tasks wrote beside the model, and one on the large files among them."""
    lines = []
    if ran.written:
        lines.append(f"Tasks write files beside the model, which are put back: {_some(ran.written)}")
    if ran.shared:
        lines.append(
            f"Tasks write to large files of the bundle: {_some(ran.shared)}. Their batches ran again, "
            "each runner with copies of its own"
        )
    return lines


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def driver(who: Driver) -> str:
    """Who runs the study now, since when, in which phase, how fast."""
    place = f"process {who.pid} of this machine" if who.here else f"process {who.pid} on {who.host}"
    since = time.strftime("%H:%M:%S", time.localtime(who.started))
    words = [f"Being run by {place}, for {duration(max(0.0, time.time() - who.started))} (since {since})"]
    words.append(PHASES.get(who.phase, who.phase).lower())
    if who.rate:
        words.append(a_second(who.rate))
    if who.eta_seconds:
        words.append(f"{duration(who.eta_seconds)} to go")
    return ", ".join(filter(None, words))


def next_step(found: Summary, again: str, spec: str = "") -> str:
    """What to type next; `again` is the command that was typed, `spec` its study file."""
    if found.interrupted:
        pending = found.counts["pending"]
        return f"Interrupted: {pending:,} tasks are pending. The same command goes on:\n  {again}"
    nothing = "Nothing was left to do.\n" if found.ran is None else ""
    results = f"mops-helm study results {shlex.quote(short(found.store))}"
    if spec and not (found.results or found.problem):  # results/ is of a later request
        results += f" --spec {shlex.quote(spec)}"
    steps = [results] if found.counts["ok"] else []
    if found.counts["failed"] or found.counts["poisoned"]:
        steps.append(f"{again} --retry failed,poisoned")
    return nothing + "Next:\n" + "\n".join(f"  {step}" for step in steps)


def reproduce(found: Summary, failure: Failure, flags: str) -> str:
    """The command that runs one of the failed tasks in the foreground."""
    command = (
        f"mops-helm study try {shlex.quote(short(found.store))} --task {failure.set}/{failure.replicate}"
    )
    return f"{command} {flags}".rstrip()


def tried(result: Tried, form: str) -> str:
    """What one task returned, or why it did not."""
    task, outcome = result.task, result.outcome
    if form != "table":
        fields = {name: getattr(task, name) for name in ("set", "replicate", "param_id", "seed", "params")}
        fields |= {
            name: getattr(outcome, name)
            for name in ("status", "reason", "error", "seconds", "peak_bytes", "limit_bytes")
        }
        fields["hint"] = result.hint
        return data({**fields, "outputs": {name: len(blob) for name, blob in outcome.outputs.items()}}, form)
    lines = [
        f"Task {task.set}/{task.replicate}, seed {task.seed}, {_json(task.params)}",
        f"{outcome.status}{f' ({outcome.reason})' if outcome.reason else ''} in {duration(outcome.seconds)}"
        + (f", peak memory {outcome.peak_bytes / MIB:,.0f} MiB" if outcome.peak_bytes else "")
        + (f", limit {outcome.limit_bytes / MIB:,.0f} MiB" if outcome.limit_bytes else ""),
    ]
    if outcome.error:
        lines.append(outcome.error.rstrip())
    if result.hint:
        lines.append(result.hint)
    for name, blob in outcome.outputs.items():
        table = as_table(blob)
        lines.append(f"\n{name}: {len(blob):,} bytes" + (f", {table.num_rows:,} rows" if table else ""))
        if table is not None:
            lines.append(preview(table))
    return "\n".join(lines)


def results(tables: Tables, name: str | None, form: str) -> str:
    """Every output, or the one named; for people with the first rows. NoOutput.

    Tables of an earlier request are gone afterwards, so their files are not named.
    """
    found = tables.outputs if name is None else {name: tables.output(name)}
    if form != "table":
        listed = [
            {
                "name": name,
                "file": each.where if tables.last else None,
                "rows": each.n_rows,
                "columns": each.schema.names,
            }
            for name, each in found.items()
        ]
        return data(listed, form)
    return "\n\n".join(
        f"{name}: {each.n_rows:,} rows{f' in {short(each.where)}' if tables.last else ''}\n"
        f"{preview(each.head(PREVIEW_ROWS))}"
        for name, each in found.items()
    )


def verified(report: Report, form: str) -> str:
    """What was looked at, then a line per finding: its code, where, what it is and what to do."""
    if form != "table":
        facts = {name: getattr(report, name) for name in ("store", "bundle", "entrypoint", "tasks")}
        facts |= {"attempts": report.rows, "run_again": report.rerun, "results_checked": report.tables}
        facts["possibly_affected"] = dict(report.affected)
        return data(facts | {"findings": [asdict(finding) for finding in report.findings]}, form)
    counts = ", ".join(f"{count:,} {state}" for state, count in report.tasks.items() if count)
    again = f", {report.rerun:,} tasks run again" if report.rerun else ""
    lines = [f"{short(report.store)}: {counts or 'no tasks'}; {report.rows:,} attempts read{again}"]
    if not report.tables:
        lines.append("results/ has the tables of another, later request, and was not checked.")
    lines += [f"{f.code:<11} {f.where}{' ' if f.where else ''}{f.message}" for f in report.findings]
    lines += [] if report.findings else ["Nothing is wrong."]
    return "\n".join([*lines, *_affected(report)])


def _affected(report: Report) -> list[str]:
    """A line on results that faults of mops-helm 0.1 may have changed, and how to check them."""
    if not report.affected:
        return []
    counts = ", ".join(f"{count:,} under {executor}" for executor, count in sorted(report.affected.items()))
    sample = f"mops-helm study verify {shlex.quote(short(report.store))} --sample 20"
    return [
        f"Possibly affected: ok results of mops-helm 0.1, {counts}. Its faults are listed in CHANGELOG.md, "
        f'"Wrong results fixed". To compare some with a fresh run:\n  {sample}'
    ]


def preview(table: Any) -> str:
    """The first rows and columns of an Arrow table, aligned."""
    shown = table.slice(0, PREVIEW_ROWS).select(table.column_names[:PREVIEW_COLUMNS])
    columns = [[name, *map(_cell, shown[name].to_pylist())] for name in shown.column_names]
    widths = [max(map(len, column)) for column in columns]
    rows = [
        "  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]
    hidden = table.num_columns - shown.num_columns
    return "\n".join(f"  {row}" for row in rows) + (f"\n  and {hidden} more columns" if hidden else "")


def short(path: str) -> str:
    """A path relative to the current folder when it lies in it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _summary_fields(found: Summary, flags: str) -> dict[str, Any]:
    facts = fields(found)
    for reason, failure in zip(facts["by_reason"], found.failures, strict=True):
        reason["reproduce"] = reproduce(found, failure, flags)
    return facts


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}..."


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=isinstance(value, dict) and "set" not in value)
