"""Functions that return what `preset diagnose` prints of its questions: what to try, what they come to.

A Question or Conclusion, the release that is seen -> lines with commands to paste, or the same facts as data
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mops_helm import paths
from mops_helm.questions import Conclusion, Question, Trial, kept_in, words
from mops_helm.render import data

if TYPE_CHECKING:
    from mops_helm.helm import Place


def upgrade(trial: Trial, place: "Place | None") -> str:
    """The command that gives a release these values; RELEASE where none is seen."""
    return f"mops-helm upgrade {_where(place)} {_flags(trial)}"


def helm_upgrade(trial: Trial, place: "Place | None") -> str:
    """The same by helm alone."""
    release, *where = _where(place).split()
    sets = [word for each in trial.sets for word in ("--set", each)]
    preset = _from_here(paths.PRESETS / f"{trial.preset}.yaml")
    words = [release, _from_here(paths.CHART), *where, "--reuse-values", "-f", preset, *sets]
    return shlex.join(["helm", "upgrade", *words])


def _from_here(path: Path) -> str:
    """As short as it can be typed in this folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _where(place: "Place | None") -> str:
    return f"{place.release} -n {place.namespace}" if place else "RELEASE"


def _flags(trial: Trial) -> str:
    preset = ["--preset", trial.preset] if trial.preset else []
    return shlex.join([*preset, *(word for each in trial.sets for word in ("--set", each))])


def question(node: Question) -> str:
    """A question as it is asked on a terminal."""
    nothing = "not tried yet: say how" if node.trial else "end here"
    means = {**node.means, "Enter": nothing}
    return "\n".join([node.ask, *(f"  {answer:<8} {text}" for answer, text in means.items())])


def step(
    node: Question | Conclusion, answers: Mapping[str, str], place: "Place | None", kept: Path, form: str
) -> str:
    """What to try next, or what the answers come to. `kept` is the file that they are kept in.

    A question is one with a trial: the others are asked at once.
    """
    trial = node.trial
    commands = {"mops-helm": upgrade(trial, place), "helm": helm_upgrade(trial, place)}
    if form != "table":
        ends = isinstance(node, Conclusion)
        about = (
            {"verdict": node.verdict, "says": node.says} if ends else {"question": node.key, "ask": node.ask}
        )
        wanted = {"preset": trial.preset, "set": list(trial.sets), "commands": commands}
        return data({"answers": dict(answers), **about, **wanted}, form)
    lines = [f"  {commands['mops-helm']}", f"  {commands['helm']}   # or by helm alone"]
    if isinstance(node, Conclusion):
        head = [f"{node.verdict}: {node.says}", f"Use {words(trial)}:"]
        return "\n".join([*head, *lines, f"Answers: {kept} (remove it to begin again)"])
    lines.append(f"  mops-helm study run SPEC {_flags(trial)}   # or on this machine")
    lines.append("Then go on:")
    own = "" if kept == kept_in() else f"--answers {shlex.quote(str(kept))} "
    lines += [
        f"  mops-helm preset diagnose {own}--answer {node.key}={answer:<6} # {text}"
        for answer, text in node.means.items()
    ]
    return "\n".join([f"Next: {node.ask}", *lines, f"Answers so far: {kept} (remove it to begin again)"])


def missing(node: Question) -> str:
    """A question that nobody is there to answer."""
    lines = [f"  --answer {node.key}={answer:<8} {text}" for answer, text in node.means.items()]
    return "\n".join([f"{node.ask} Say it with one of", *lines])
