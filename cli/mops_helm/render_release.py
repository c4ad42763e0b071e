"""Functions that return what install, upgrade and status print.

Plan, Status -> lines for people, or the same facts as JSON or YAML
"""

import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mops_helm.helm import Place
    from mops_helm.release import Plan

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


def _where(place: "Place") -> str:
    context = f" --kube-context {shlex.quote(place.context)}" if place.context else ""
    return f"{place.release} -n {place.namespace}{context}"


def _word(value: object) -> str:
    return "(default)" if value is None else json.dumps(value, ensure_ascii=False)
