"""The guide's decision tree as questions: what to try next, and what it comes to.

questions.yaml -> Tree;   Tree, answers so far -> the question that comes next, or a Conclusion

Answers are kept in a file, so that a preset can be tried for a day and the next call goes on. Does not ask or
print: commands/diagnose.py does.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput
from mops_helm.values.presets import did_you_mean

DATA = Path(__file__).with_name("questions.yaml")
OUTCOMES = {"gone": "with it, all is well", "still": "it makes no difference"}  # of a preset that was tried


@dataclass(frozen=True)
class Trial:
    """Values to run the same study under: a preset, and values over it as --set has them."""

    preset: str
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """`means` and `then` have the possible answers: in words, and the key of what comes next.

    With a `trial` it is about what happens under that; without, it is one that a person can answer at once.
    """

    key: str
    ask: str
    means: Mapping[str, str]
    then: Mapping[str, str]
    trial: Trial | None = None


@dataclass(frozen=True)
class Conclusion:
    """Where the questions end. `verdict` is in the words of the experiment; `trial` is what to use."""

    key: str
    verdict: str
    says: str
    trial: Trial


@dataclass(frozen=True)
class Tree:
    """Questions and conclusions by key, and the key of the first question."""

    first: str
    nodes: Mapping[str, Question | Conclusion]

    def walk(self, answers: Mapping[str, str]) -> tuple[dict[str, str], Question | Conclusion]:
        """The answers that count, in the order of the questions, and the node at which they end."""
        used: dict[str, str] = {}
        node = self.nodes[self.first]
        while isinstance(node, Question) and answers.get(node.key) in node.then:
            used[node.key] = answers[node.key]
            node = self.nodes[node.then[used[node.key]]]
        return used, node

    def check(self, given: Sequence[str]) -> dict[str, str]:
        """KEY=VALUE texts as answers; BadInput when one of them is none."""
        questions = {key: node for key, node in self.nodes.items() if isinstance(node, Question)}
        answers = {}
        for text in given:
            key, _, value = text.partition("=")
            if key not in questions:
                near = did_you_mean(key, list(questions))
                raise BadInput(f"--answer {text}: there is no question {key}{near}")
            if value not in questions[key].then:
                possible = " or ".join(questions[key].then)
                near = did_you_mean(value, list(questions[key].then))
                raise BadInput(f"--answer {text}: to {key} the answer is {possible}{near}")
            answers[key] = value
        return answers


def tree() -> Tree:
    """The tree of questions.yaml."""
    import yaml

    raw = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    nodes: dict[str, Question | Conclusion] = {
        key: _question(key, item) for key, item in raw["questions"].items()
    }
    for key, item in raw["conclusions"].items():
        nodes[key] = Conclusion(key, item["verdict"], item["says"], _trial(item))
    return Tree(raw["first"], nodes)


def _question(key: str, item: Mapping[str, Any]) -> Question:
    if answers := item.get("answers"):
        means = {answer: each["means"] for answer, each in answers.items()}
        return Question(key, item["ask"], means, {answer: each["then"] for answer, each in answers.items()})
    trial = _trial(item)
    ask = f"Run the same study with {words(trial)}: it tells {item['tells']}."
    return Question(key, ask, OUTCOMES, {answer: item[answer] for answer in OUTCOMES}, trial)


def _trial(item: Mapping[str, Any]) -> Trial:
    return Trial(item["preset"], tuple(item.get("set", ())))


def words(trial: Trial) -> str:
    """preset NAME and KEY=VALUE"""
    return " and ".join([f"preset {trial.preset}", *trial.sets])


def kept_in() -> Path:
    """The file for answers, unless a person names one: in the place for state of the XDG rules."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "mops-helm" / "diagnose.json"


def read(path: Path) -> dict[str, str]:
    """The answers of a file; none when it is not there. BadInput when it holds something else."""
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))["answers"]
        return {str(key): str(value) for key, value in answers.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read as answers ({error}); remove it to begin again") from None


def write(path: Path, answers: Mapping[str, str]) -> None:
    """Keep answers in a file. BadInput when that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps({"answers": dict(answers)}, indent=2) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise BadInput(f"answers cannot be kept in {path}: {error.strerror or error}") from None
