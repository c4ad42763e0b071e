"""Functions that return the output of `diagnose` for questions: what to try, and conclusions.

A Step, the current release -> lines with commands to paste, or the same facts as data
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from modelops_dask.kube.connect import format_location
from mops_helm import paths
from mops_helm.diagnose.questions import (
    Conclusion,
    PresetTrial,
    Question,
    Step,
    default_answers_path,
    describe_trial,
)
from mops_helm.forms import OutputFormat, render_data

if TYPE_CHECKING:
    from mops_helm.helm import ReleaseRef


def render_upgrade_command(trial: PresetTrial, release: "ReleaseRef | None") -> str:
    """The command that gives a release these values; RELEASE if none is known."""
    return f"mops-helm upgrade {_render_release(release)} {_render_flags(trial)}"


def render_helm_command(trial: PresetTrial, release: "ReleaseRef | None") -> str:
    """The same with helm alone."""
    name, *location = _render_release(release).split()
    sets = [argument for text in trial.sets for argument in ("--set", text)]
    preset = _shorten_path(paths.PRESETS / f"{trial.preset}.yaml")
    chart = _shorten_path(paths.CHART)
    return shlex.join(["helm", "upgrade", name, chart, *location, "--reuse-values", "-f", preset, *sets])


def _shorten_path(path: Path) -> str:
    """The shortest form of a path that can be typed in this folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _render_release(release: "ReleaseRef | None") -> str:
    return (
        f"{release.release} {format_location(release.namespace, release.context)}" if release else "RELEASE"
    )


def _render_flags(trial: PresetTrial) -> str:
    preset = ["--preset", trial.preset] if trial.preset else []
    return shlex.join([*preset, *(argument for text in trial.sets for argument in ("--set", text))])


def render_question(question: Question) -> str:
    """A question in the form that a terminal shows."""
    nothing = "not tried yet: command to try" if question.trial else "end here"
    means = {**question.means, "Enter": nothing}
    return "\n".join([question.ask, *(f"  {answer:<8} {text}" for answer, text in means.items())])


def render_step(step: Step, release: "ReleaseRef | None", output: OutputFormat) -> str:
    """What to try next, or the conclusion."""
    node, trial = step.node, step.trial
    commands = {
        "mops-helm": render_upgrade_command(trial, release),
        "helm": render_helm_command(trial, release),
    }
    if output != "table":
        if isinstance(node, Conclusion):
            facts = {"verdict": node.verdict, "says": node.says}
        else:
            facts = {"question": node.key, "ask": node.ask}
        values = {"preset": trial.preset, "set": list(trial.sets), "commands": commands}
        return render_data({"answers": dict(step.answers), **facts, **values}, output)
    lines = [f"  {commands['mops-helm']}", f"  {commands['helm']}   # or with helm alone"]
    if isinstance(node, Conclusion):
        head = [f"{node.verdict}: {node.says}", f"Use {describe_trial(trial)}:"]
        return "\n".join([*head, *lines, f"Answers: {step.answers_path} (remove it to start again)"])
    lines.append(f"  mops-helm study run SPEC {_render_flags(trial)}   # or on this machine")
    lines.append("Then continue:")
    is_default = step.answers_path == default_answers_path()
    answers = "" if is_default else f"--answers {shlex.quote(str(step.answers_path))} "
    lines += [
        f"  mops-helm diagnose {answers}--answer {node.key}={answer:<6} # {text}"
        for answer, text in node.means.items()
    ]
    footer = f"Answers so far: {step.answers_path} (remove it to start again)"
    return "\n".join([f"Next: {node.ask}", *lines, footer])
