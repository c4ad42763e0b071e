"""`preset diagnose` without a study: the guide's decision tree as questions."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from modelops_dask.diagnose.verdict import verdict
from mops_helm import helm
from mops_helm.diagnose import questions
from mops_helm.diagnose.questions import Conclusion, Question
from mops_helm.main import main
from mops_helm.values import layers, presets

TREE = questions.load_tree()
ASKED = [node for node in TREE.nodes.values() if isinstance(node, Question)]
CONCLUSIONS = [node for node in TREE.nodes.values() if isinstance(node, Conclusion)]


@pytest.fixture(autouse=True)
def away(monkeypatch, tmp_path):
    """No cluster, and a home of one's own."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ask(*arguments, exit_code=0):
    done = CliRunner().invoke(main, ["preset", "diagnose", *map(str, arguments)])
    assert done.exit_code == exit_code, done.output
    return done


def answers_to(target: str) -> list[str]:
    """--answer options that lead to a node."""
    paths = {TREE.first: []}
    while target not in paths:
        before = dict(paths)
        for key, path in before.items():
            if isinstance(node := TREE.nodes[key], Question):
                for answer, then in node.then.items():
                    paths.setdefault(then, [*path, "--answer", f"{key}={answer}"])
        assert paths.keys() != before.keys(), f"nothing leads to {target}"
    return paths[target]


@pytest.mark.parametrize("node", TREE.nodes.values(), ids=lambda node: node.key)
def test_every_node_is_reached_by_answers_and_says_what_to_do(node):
    if not node.trial:
        given = answers_to(node.key)
        assert node.ask in ask(*given, exit_code=2).stderr
        return
    shown = json.loads(ask(*answers_to(node.key), "-o", "json").stdout)
    assert shown["preset"] == node.trial.preset
    assert f"--preset {node.trial.preset}" in shown["commands"]["mops-helm"]
    assert f"values/{node.trial.preset}.yaml" in shown["commands"]["helm"]


@pytest.mark.parametrize("node", ASKED, ids=lambda node: node.key)
def test_every_answer_leads_somewhere_and_no_path_comes_back(node):
    assert set(node.means) == set(node.then)
    assert set(node.then.values()) <= TREE.nodes.keys()
    seen, ahead = set(), list(node.then.values())
    while ahead:
        seen.add(key := ahead.pop())
        ahead += TREE.nodes[key].then.values() if isinstance(TREE.nodes[key], Question) else ()
    assert node.key not in seen


@pytest.mark.parametrize(
    "node", [node for node in TREE.nodes.values() if node.trial], ids=lambda node: node.key
)
def test_every_trial_is_of_a_preset_that_exists_with_values_that_are_good(node):
    presets.find(node.trial.preset)
    layers.resolve([node.trial.preset], (), node.trial.sets)


def test_every_conclusion_is_a_verdict_of_the_experiment():
    assert {node.verdict for node in CONCLUSIONS} <= set(verdict.VERDICTS) - {"healthy", "inconclusive"}


def test_off_a_terminal_a_fact_that_is_missing_is_asked_for_and_nothing_is_kept(tmp_path):
    said = ask(exit_code=2).stderr
    assert "What is wrong?" in said
    assert "--answer symptom=results" in said
    assert not (tmp_path / "state").exists()


def test_answers_are_kept_so_that_the_next_call_goes_on(tmp_path):
    ask("--answer", "symptom=results", "--answer", "direct=no", "--answer", "several-threads=no")
    assert "--preset cold" in ask().stdout
    assert "--preset single-process" in ask("--answer", "cold=still").stdout
    assert "--preset single-process" in ask().stdout
    changed = ask("--answer", "cold=gone").stdout  # one may be wrong
    assert "--preset isolated-fork" in changed
    file = tmp_path / "state" / "mops-helm" / "diagnose.json"
    assert str(file) in changed
    file.unlink()
    ask(exit_code=2)


def test_a_file_for_answers_may_be_named(tmp_path):
    kept = tmp_path / "mine.json"
    said = ask("--answers", kept, "--answer", "symptom=memory").stdout
    assert f"--answers {kept} --answer cold-memory=gone" in said
    assert json.loads(kept.read_text()) == {"answers": {"symptom": "memory"}}
    kept.write_text("[")
    assert str(kept) in ask("--answers", kept, exit_code=2).stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("symptoms=results", "did you mean symptom?"),
        ("symptom=result", "results or memory"),
        ("symptom=resluts", "the answer to symptom is results or memory; did you mean results?"),
        ("symptom", "the answer to symptom is results or memory\n"),
    ],
)
def test_an_answer_that_is_none_is_refused_and_not_kept(given, said, tmp_path):
    assert said in ask("--answer", given, exit_code=2).stderr
    assert not (tmp_path / "state").exists()


def test_the_helm_command_renders_what_the_preset_is():
    """The printed line, with `template` for `upgrade`: helm takes its files and flags."""
    said = ask(
        "--answer", "symptom=results", "--answer", "direct=no", "--answer", "several-threads=yes"
    ).stdout
    (line,) = re.findall(r"^  helm (upgrade RELEASE .*?)   #", said, re.MULTILINE)
    words = line.replace("upgrade RELEASE", "template probe").replace("--reuse-values ", "").split()
    rendered = helm.run([*words, "--kube-version", helm.KUBE_VERSION])
    assert "--nthreads" in rendered
    assert "modelops.io/preset: baseline" in rendered


def test_on_a_terminal_it_asks_until_there_is_something_to_try():
    said = typed("results\n", "maybe\n", "no\n", "no\n", "\n")
    assert "'maybe' is not one of" in said
    assert "mops-helm upgrade RELEASE --preset cold" in said
    assert "mops-helm upgrade RELEASE --preset isolated-fork" in typed("gone\n", "gone\n")


def typed(*lines: str) -> str:
    """What a terminal shows while a person answers; a line is typed once it is asked for."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mops_helm.main", "preset", "diagnose"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ) as process:
        os.close(theirs)
        shown, left = "", list(lines)
        while select.select([ours], [], [], 60)[0]:
            try:
                more = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += more.decode()
            if left and shown.rstrip(" ").endswith("Answer:"):
                os.write(ours, left.pop(0).encode())
                shown += " "
        os.close(ours)
    assert process.returncode == 0, shown
    assert not left, shown
    return shown


def test_a_release_that_is_seen_is_named(monkeypatch, tmp_path):
    """A helm that answers: its list is all that is asked for."""
    program = Path(tmp_path, "helm")
    program.write_text(
        "#!/bin/sh\n"
        'test "$1 $2" = "list --all-namespaces" || exit 1\n'
        """echo '[{"name": "sims", "namespace": "epi", "chart": "modelops-dask-0.1.0"},"""
        """ {"name": "db", "namespace": "epi", "chart": "postgres-1.0.0"}]'\n"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    said = ask("--answer", "symptom=memory").stdout
    assert "mops-helm upgrade sims -n epi --preset cold" in said
    assert re.search(r"helm upgrade sims \S+/modelops-dask -n epi --reuse-values -f \S+/cold.yaml", said)
