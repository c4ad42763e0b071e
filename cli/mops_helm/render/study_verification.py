"""The output of `study verify`.

Report -> lines for people (`table`), or the same facts as JSON or YAML
"""

from modelops_dask.documents.quoting import quote_path
from modelops_dask.store.verify_tasks import Report
from mops_helm.forms import OutputFormat, render_data, shorten_path
from mops_helm.render.self_check import UNKNOWN_ORIGIN, Origin, render_commands


def render_verification(report: Report, output: OutputFormat, origin: Origin = UNKNOWN_ORIGIN) -> str:
    """What was checked, then a line per finding: its code, its position, the problem and advice.

    `origin` is for the commands that run the study again.
    """
    if output != "table":
        fields = {
            "store": report.store,
            "bundle": report.bundle,
            "entrypoint": report.entrypoint,
            "tasks": report.tasks,
            "attempts": report.rows,
            "run_again": report.rerun,
            "not_comparable": [{"task": task, "why": why} for task, why in report.not_comparable],
            "results_checked": report.tables,
            "possibly_affected": dict(report.affected),
            "warning": report.warning,
            "notes": report.notes,
            "equal_replicates": report.equal_replicates,
            "findings": [defect.as_json() for defect in report.findings],
        }
        return render_data(fields, output)
    counts = ", ".join(f"{count:,} {state}" for state, count in report.tasks.items() if count)
    reruns = f", {report.rerun:,} tasks run again" if report.rerun else ""
    lines = [f"{shorten_path(report.store)}: {counts or 'no tasks'}; {report.rows:,} attempts read{reruns}"]
    if not report.tables:
        lines.append("results/ has the tables of a later request and was not checked.")
    for defect in report.findings:
        location = f"{defect.location} " if defect.location else ""
        lines.append(f"{defect.code:<11} {location}{defect.message}")
    lines += [f"Not comparable: {task}: {why}" for task, why in report.not_comparable]
    n_left = report.rerun - len(report.not_comparable)
    if not report.findings:
        rest = (
            ""
            if n_left or not report.rerun
            else " in what could be checked; no task that ran again could be compared"
        )
        lines.append(f"Nothing {'else ' if report.warning else ''}is wrong{rest}.")
    lines += filter(None, [report.warning, *(f"Note: {note}" for note in report.notes)])
    return "\n".join([*lines, *_render_commands(report, origin), *_render_affected(report)])


def _render_commands(report: Report, origin: Origin) -> list[str]:
    """The next commands, if tasks change the results of others."""
    if not report.changed:
        return []
    return render_commands(
        report.store, origin, executors=set(report.changed), equal_replicates=report.equal_alone
    )


def _render_affected(report: Report) -> list[str]:
    """A line on results that faults of mops-helm 0.1 may have affected, and how to check them."""
    if not report.affected:
        return []
    counts = ", ".join(f"{count:,} under {executor}" for executor, count in sorted(report.affected.items()))
    sample = f"mops-helm study verify {quote_path(shorten_path(report.store))} --sample 20"
    return [
        f"Possibly affected: ok results of mops-helm 0.1, {counts}. Its faults are listed in CHANGELOG.md, "
        f'"Wrong results fixed". To compare some with a fresh run:\n  {sample}'
    ]
