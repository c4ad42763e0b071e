"""Functions that return what install, upgrade and status print.

Plan, Status -> lines for people, or the same facts as JSON or YAML
"""

import json
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mops_helm.helm import Place
    from mops_helm.release import Plan
    from mops_helm.release_status import Status

MOST_CHANGES = 20  # values listed one by one


def plan(planned: "Plan") -> list[str]:
    """Warnings, the values that change, how many objects do."""
    from mops_helm import release_diff

    lines = [str(finding) for finding in planned.warnings]
    if planned.verb == "upgrade":
        lines += [
            f"{name}: {_word(old)} -> {_word(new)}" for name, old, new in planned.changes[:MOST_CHANGES]
        ]
        if len(planned.changes) > MOST_CHANGES:
            lines.append(f"and {len(planned.changes) - MOST_CHANGES} more values")
    changed = release_diff.summary(planned.before, planned.after)
    counts = {sign: sum(line[0] == sign for line in changed) for sign in "+~-"}
    words = [f"{counts[sign]} {word}" for sign, word in (("+", "new"), ("~", "changed"), ("-", "removed"))]
    head = f"{planned.verb} {planned.place.release} in namespace {planned.place.namespace}"
    return [*lines, f"{head}: objects {', '.join(words)}" if changed else f"{head}: no object changes"]


def status_command(place: "Place") -> str:
    return f"mops-helm status {_where(place)}"


def next_steps(place: "Place", planned: "Plan", *, waited: bool) -> str:
    """What to type next."""
    done = "is ready" if waited else "was sent to the cluster"
    steps = [(status_command(place), "what is in effect, proven in every worker process")]
    if planned.takes_studies:
        submit = f"mops-helm study submit study.yaml --release {_where(place)}"
        steps.append((submit, "run a study"))
    steps.append((place.line("test", place.release, "--logs"), "compute in every process"))
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:<{width}}   # {text}" for command, text in steps]
    return "\n".join([f"Release {place.release} {done}. Next:", *lines])


def status(found: "Status", form: str) -> str:
    """Pods, what is in effect, differences, studies, and the lines for all else."""
    from mops_helm.render import data

    if form != "table":
        return data(_fields(found), form)
    blocks = [_release(found), _effect(found)]
    if found.studies:
        from mops_helm import render_cluster

        blocks.append(render_cluster.listed(found.studies, found.place.namespace, "table"))
    blocks.append(_lines(found))
    return "\n\n".join(blocks)


def _release(found: "Status") -> str:
    preset = f", preset {found.preset}" if found.preset else ""
    where = f"Release {found.place.release} in namespace {found.place.namespace}"
    lines = [f"{where}: executor {found.executor}{preset}"]
    for part in found.rollout.parts:
        state = "" if part.done else "   not rolled out"
        lines.append(f"  {part.name:<30} {part.ready}/{part.wanted} pods ready{state}")
    return "\n".join([*lines, *(str(problem) for problem in found.rollout.problems)])


def _effect(found: "Status") -> str:
    """Whether values are in effect, and where not: a row a value, a column a stage."""
    from mops_helm.render import table

    lines = [f"Not known: {text}" for text in found.unknown]
    for pool in found.pools:
        said = f"{pool.answered} of {pool.wanted} worker processes in {len(pool.pods)} pods answered"
        lines.append(
            f"Pool {pool.name}: {said}" if pool.wanted else f"Pool {pool.name}: {len(pool.pods)} pods"
        )
    if found.drift:
        head = ["POOL", "VALUE", "WANTED", "RENDERED", "PODS", "PROCESSES"]
        rows = [
            [row.pool, row.name, row.wanted, row.rendered, _counted(row.pods), _counted(row.processes)]
            for row in found.drift
        ]
        lines += ["In effect is not what the values say:", table(head, rows)]
    elif found.proven:
        lines.append(f"In effect is what the values say: {len(found.rows)} values compared, no difference.")
    else:
        lines.append("No difference in what could be compared.")
    return "\n".join(lines)


def _counted(found: "Mapping[str, tuple[str, ...]]") -> str:
    """What is found; if not the same everywhere, with how often."""
    if len(found) < 2:
        return "".join(found) or "-"
    return ", ".join(f"{value} ({len(where)})" for value, where in found.items())


def _lines(found: "Status") -> str:
    """What kubectl and helm do well."""
    kubectl = f"kubectl{_context(found.place)} -n {found.place.namespace}"
    release, label = found.place.release, f"app.kubernetes.io/instance={found.place.release}"
    steps = [
        ("Logs", f"{kubectl} logs -l {label},app=dask-worker --prefix --tail=20"),
        ("Dashboard", f"{kubectl} port-forward svc/{found.scheduler} 8787   then http://127.0.0.1:8787"),
        ("Test", found.place.line("test", release, "--logs")),
        ("Uninstall", found.place.line("uninstall", release)),
    ]
    return "\n".join(f"{name:<10} {command}" for name, command in steps)


def _fields(found: "Status") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "release": found.place.release,
        "namespace": found.place.namespace,
        "preset": found.preset,
        "executor": found.executor,
        "rolledOut": found.rollout.done,
        "proven": found.proven,
        "parts": [asdict(part) for part in found.rollout.parts],
        "problems": [asdict(problem) for problem in found.rollout.problems],
        "pools": [asdict(pool) for pool in found.pools],
        "values": [{**asdict(row), "drift": row.drift} for row in found.rows],
        "unknown": list(found.unknown),
        "studies": [
            {"job": one.job, "study": one.study, "state": one.state, "store": one.store}
            for one in found.studies
        ],
    }


def _context(place: "Place") -> str:
    return f" --context {shlex.quote(place.context)}" if place.context else ""


def _where(place: "Place") -> str:
    context = f" --kube-context {shlex.quote(place.context)}" if place.context else ""
    return f"{place.release} -n {place.namespace}{context}"


def _word(value: object) -> str:
    return "(default)" if value is None else json.dumps(value, ensure_ascii=False)
