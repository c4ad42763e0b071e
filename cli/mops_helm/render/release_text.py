"""Functions that return what install, upgrade and status print.

ReleasePlan, Status -> lines for people, or the same facts as JSON or YAML
"""

import json
import shlex
from typing import TYPE_CHECKING, Any

from mops_helm.forms import OutputFormat, render_data, render_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mops_helm.helm import ReleaseRef
    from mops_helm.release.release import ReleasePlan
    from mops_helm.release.rollout import DeploymentRollout
    from mops_helm.release.status import Status, ValueStages

MOST_CHANGES = 20  # values listed one by one


def render_release_plan(plan: "ReleasePlan") -> list[str]:
    """Warnings, changed values, and the number of changed objects."""
    from mops_helm.release import diff as release_diff

    lines = [str(finding) for finding in plan.warnings]
    if plan.verb == "upgrade":
        lines += [
            f"{name}: {_render_value(old)} -> {_render_value(new)}"
            for name, old, new in plan.changes[:MOST_CHANGES]
        ]
        if len(plan.changes) > MOST_CHANGES:
            lines.append(f"and {len(plan.changes) - MOST_CHANGES} more values")
    changed = release_diff.summary(plan.before, plan.after)
    counts = {sign: sum(line[0] == sign for line in changed) for sign in "+~-"}
    totals = [f"{counts[sign]} {word}" for sign, word in (("+", "new"), ("~", "changed"), ("-", "removed"))]
    head = f"{plan.verb} {plan.place.release} in namespace {plan.place.namespace}"
    return [*lines, f"{head}: objects {', '.join(totals)}" if changed else f"{head}: no object changes"]


def render_status_command(place: "ReleaseRef") -> str:
    return f"mops-helm status {_render_release_flags(place)}"


def render_next_steps(place: "ReleaseRef", plan: "ReleasePlan", *, waited: bool) -> str:
    """What to type next."""
    state = "is ready" if waited else "was sent to the cluster"
    steps = [(render_status_command(place), "check the settings in effect in every worker process")]
    if plan.takes_studies:
        submit = f"mops-helm study submit study.yaml --release {_render_release_flags(place)}"
        steps.append((submit, "run a study"))
    steps.append((place.command_line("test", place.release, "--logs"), "test a computation in every process"))
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:<{width}}   # {text}" for command, text in steps]
    return "\n".join([f"Release {place.release} {state}. Next:", *lines])


def render_release_status(status: "Status", output: OutputFormat) -> str:
    """Pods, settings in effect, differences, studies, and commands for everything else."""
    if output != "table":
        return render_data(_status_fields(status), output)
    blocks = [_render_release(status), _render_effect(status)]
    if status.studies:
        from mops_helm.render import submitted_studies

        blocks.append(submitted_studies.render_study_list(status.studies, status.place.namespace, "table"))
    blocks.append(_render_commands(status))
    return "\n\n".join(blocks)


def _render_release(status: "Status") -> str:
    preset = f", preset {status.preset}" if status.preset else ""
    head = f"Release {status.place.release} in namespace {status.place.namespace}"
    lines = [f"{head}: executor {status.executor}{preset}"]
    for deployment in status.rollout.deployments:
        state = "" if deployment.complete else "   not rolled out"
        lines.append(f"  {deployment.name:<30} {deployment.ready}/{deployment.n_pods} pods ready{state}")
    return "\n".join([*lines, *(str(problem) for problem in status.rollout.problems)])


def _render_effect(status: "Status") -> str:
    """Whether values are in effect, and differences: a row per value, a column per stage."""
    lines = [f"Not known: {text}" for text in status.unknown]
    for pool in status.pools:
        answers = f"{pool.answered} of {pool.n_processes} worker processes in {len(pool.pods)} pods answered"
        lines.append(
            f"Pool {pool.name}: {answers}" if pool.n_processes else f"Pool {pool.name}: {len(pool.pods)} pods"
        )
    if status.drift:
        head = ["POOL", "VALUE", "WANTED", "RENDERED", "PODS", "PROCESSES"]
        rows = [
            [
                row.pool,
                row.name,
                row.value,
                row.rendered,
                _count_values(row.pods),
                _count_values(row.processes),
            ]
            for row in status.drift
        ]
        lines += ["The settings in effect differ from the values:", render_table(head, rows)]
    elif status.proven:
        lines.append(
            f"The settings in effect match the values: {len(status.rows)} values compared, no difference."
        )
    else:
        lines.append("No difference in the values that could be compared.")
    return "\n".join(lines)


def _count_values(owners: "Mapping[str, tuple[str, ...]]") -> str:
    """The value that all pods or processes share; if they differ, each value with its count."""
    if len(owners) < 2:
        return "".join(owners) or "-"
    return ", ".join(f"{value} ({len(names)})" for value, names in owners.items())


def _render_commands(status: "Status") -> str:
    """Commands for tasks that kubectl and helm do well."""
    kubectl = f"kubectl{_render_context(status.place)} -n {status.place.namespace}"
    release, label = status.place.release, f"app.kubernetes.io/instance={status.place.release}"
    steps = [
        ("Logs", f"{kubectl} logs -l {label},app=dask-worker --prefix --tail=20"),
        ("Dashboard", f"{kubectl} port-forward svc/{status.scheduler} 8787   then http://127.0.0.1:8787"),
        ("Test", status.place.command_line("test", release, "--logs")),
        ("Uninstall", status.place.command_line("uninstall", release)),
    ]
    return "\n".join(f"{name:<10} {command}" for name, command in steps)


def _status_fields(status: "Status") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "release": status.place.release,
        "namespace": status.place.namespace,
        "preset": status.preset,
        "executor": status.executor,
        "rolledOut": status.rollout.complete,
        "proven": status.proven,
        "parts": [_deployment_fields(deployment) for deployment in status.rollout.deployments],
        "problems": [
            {"part": problem.deployment, "pods": problem.pods, "reason": asdict(problem.reason)}
            for problem in status.rollout.problems
        ],
        "pools": [
            {"name": pool.name, "pods": pool.pods, "answered": pool.answered, "wanted": pool.n_processes}
            for pool in status.pools
        ],
        "values": [_value_fields(row) for row in status.rows],
        "unknown": list(status.unknown),
        "studies": [
            {"job": study.job, "study": study.study, "state": study.state, "store": study.store}
            for study in status.studies
        ],
    }


def _deployment_fields(deployment: "DeploymentRollout") -> dict[str, Any]:
    return {
        "name": deployment.name,
        "component": deployment.component,
        "pool": deployment.pool,
        "wanted": deployment.n_pods,
        "new": deployment.new,
        "ready": deployment.ready,
        "all": deployment.all,
    }


def _value_fields(row: "ValueStages") -> dict[str, Any]:
    return {
        "pool": row.pool,
        "name": row.name,
        "wanted": row.value,
        "rendered": row.rendered,
        "pods": dict(row.pods),
        "processes": dict(row.processes),
        "drift": row.drift,
    }


def _render_context(place: "ReleaseRef") -> str:
    return f" --context {shlex.quote(place.context)}" if place.context else ""


def _render_release_flags(place: "ReleaseRef") -> str:
    context = f" --kube-context {shlex.quote(place.context)}" if place.context else ""
    return f"{place.release} -n {place.namespace}{context}"


def _render_value(value: object) -> str:
    return "(default)" if value is None else json.dumps(value, ensure_ascii=False)
