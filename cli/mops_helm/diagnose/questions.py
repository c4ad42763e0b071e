"""The guide's decision tree as questions: what to try next, and the conclusion.

questions.yaml -> Tree;   Tree, answers so far -> the next question, or a Conclusion

Answers are stored in a file, so that a preset can be tried for a day before the next call continues. Nothing
is printed here, and questions are asked by a function that the command passes.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops_dask.errors import BadInput
from mops_helm.values.presets import did_you_mean

DATA = Path(__file__).with_name("questions.yaml")
OUTCOMES = {
    "gone": "with it, everything is correct",
    "still": "it makes no difference",
}  # answers after a preset was tried


@dataclass(frozen=True)
class PresetTrial:
    """Values to run the same study with: a preset, and --set values over it."""

    preset: str
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question; `means` and `then` have the possible answers: their text, and the key of the next node.

    With a `trial` it asks for the result of that trial; without one, the user can answer immediately.
    """

    key: str
    ask: str
    means: Mapping[str, str]
    then: Mapping[str, str]
    trial: PresetTrial | None = None


@dataclass(frozen=True)
class Conclusion:
    """The end of the questions. `verdict` is one of the experiment's; `trial` is what to use."""

    key: str
    verdict: str
    says: str
    trial: PresetTrial


@dataclass(frozen=True)
class Step:
    """What to do next after the answers so far: a question with a trial, or a conclusion. `answers_path` is
    the file of the answers.
    """

    node: Question | Conclusion
    trial: PresetTrial
    answers: Mapping[str, str]
    answers_path: Path


class Unanswered(BadInput):
    """A question without an answer, and without a terminal to ask it on."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.question = question

    def __str__(self) -> str:
        question = self.question
        lines = [f"  --answer {question.key}={answer:<8} {text}" for answer, text in question.means.items()]
        return "\n".join([f"{question.ask} Answer with one of", *lines])


@dataclass(frozen=True)
class Tree:
    """Questions and conclusions by key, and the key of the first question."""

    first: str
    nodes: Mapping[str, Question | Conclusion]

    def walk(self, answers: Mapping[str, str]) -> tuple[dict[str, str], Question | Conclusion]:
        """The answers that count, in the order of the questions, and the node that they lead to."""
        used: dict[str, str] = {}
        node = self.nodes[self.first]
        while isinstance(node, Question) and answers.get(node.key) in node.then:
            used[node.key] = answers[node.key]
            node = self.nodes[node.then[used[node.key]]]
        return used, node

    def parse_answers(self, texts: Sequence[str]) -> dict[str, str]:
        """Parse KEY=VALUE answers. Raises BadInput for an invalid one."""
        questions = {key: node for key, node in self.nodes.items() if isinstance(node, Question)}
        answers = {}
        for text in texts:
            key, _, value = text.partition("=")
            if key not in questions:
                near = did_you_mean(key, list(questions))
                raise BadInput(f"--answer {text}: unknown question {key}{near}")
            if value not in questions[key].then:
                possible = " or ".join(questions[key].then)
                near = did_you_mean(value, list(questions[key].then))
                raise BadInput(f"--answer {text}: the answer to {key} is {possible}{near}")
            answers[key] = value
        return answers


def find_next_step(texts: Sequence[str], answers_path: Path, ask: Callable[[Question], str]) -> Step:
    """Ask until a preset has to be tried or the tree ends.

    Args:
        texts: Answers of the command line, KEY=VALUE.
        answers_path: The file of earlier answers; all new ones are added to it.
        ask: Returns the answer to a question; "" if there is none.

    Raises:
        BadInput: An answer, or the file, cannot be read.
        Unanswered: A question without a trial has no answer.
    """
    tree = load_tree()
    answers = read_answers(answers_path) | tree.parse_answers(texts)
    if texts:
        write_answers(answers_path, answers)
    used, node = tree.walk(answers)
    while isinstance(node, Question):
        if answer := ask(node):
            answers[node.key] = answer
            write_answers(answers_path, answers)
            used, node = tree.walk(answers)
        elif node.trial:  # not tried yet: that is the next step
            return Step(node, node.trial, used, answers_path)
        else:
            raise Unanswered(node)
    return Step(node, node.trial, used, answers_path)


def load_tree() -> Tree:
    """The tree of questions.yaml."""
    import yaml

    raw = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    nodes: dict[str, Question | Conclusion] = {
        key: _make_question(key, item) for key, item in raw["questions"].items()
    }
    for key, item in raw["conclusions"].items():
        nodes[key] = Conclusion(key, item["verdict"], item["says"], _make_trial(item))
    return Tree(raw["first"], nodes)


def _make_question(key: str, item: Mapping[str, Any]) -> Question:
    if answers := item.get("answers"):
        means = {answer: entry["means"] for answer, entry in answers.items()}
        return Question(key, item["ask"], means, {answer: entry["then"] for answer, entry in answers.items()})
    trial = _make_trial(item)
    ask = f"Run the same study with {describe_trial(trial)}; it shows {item['tells']}."
    return Question(key, ask, OUTCOMES, {answer: item[answer] for answer in OUTCOMES}, trial)


def _make_trial(item: Mapping[str, Any]) -> PresetTrial:
    return PresetTrial(item["preset"], tuple(item.get("set", ())))


def describe_trial(trial: PresetTrial) -> str:
    """preset NAME and KEY=VALUE"""
    return " and ".join([f"preset {trial.preset}", *trial.sets])


def default_answers_path() -> Path:
    """The file for answers, unless the user names one: in the state folder of the XDG rules."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "mops-helm" / "diagnose.json"


def read_answers(path: Path) -> dict[str, str]:
    """The answers in a file; none if it does not exist. Raises BadInput for other contents."""
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))["answers"]
        return {str(key): str(value) for key, value in answers.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read as answers ({error}); remove it to start again") from None


def write_answers(path: Path, answers: Mapping[str, str]) -> None:
    """Store answers in a file. Raises BadInput if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps({"answers": dict(answers)}, indent=2) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise BadInput(f"answers cannot be saved in {path}: {error.strerror or error}") from None
