"""tools/language.py: each of its rules fails where it must, and its list of unedited files only shrinks."""

import importlib
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
language = importlib.import_module("language")
prose = importlib.import_module("prose")
sys.path.remove(str(TOOLS))

RULES = language.read_rules(language.RULES)
MOST_UNEDITED = 16  # lower it when files leave the list
MOST_EXCEPTIONS = 12


def findings(root: Path, name: str, text: str) -> list[tuple[str, int]]:
    """Rule and line of each finding in a tree with this file alone."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [(finding.rule, finding.line) for finding in language.check(prose.passages(root), RULES)]


@pytest.mark.parametrize(
    "text",
    [
        "What mends it is on the next page.",
        "This file is no study.",
        "The driver was told to stop.",
        "It is heard from no worker.",
        "Tasks that many workers run, so many at a time.",
        "Whoever comes first writes the file.",
        "Meanwhile the driver waits.",
        "This is a place that all pods see.",
        "Of ten that ran, two failed.",
        "It is stored twice, for it may be lost.",
        "Compare the found with the stored.",
        "It prints what is thrown.",
        "Run it again and it goes on.",
        "Press Ctrl-C once more to end.",
        "colour means nothing here.",
        "Say what a study amounts to.",
        "A sample is compared, and the line says so.",
        "Older results stay on record.",
        "The digest is needed, as the registry says it.",
        "Threads that models start come on top.",
        "The runner ends, and the worker lives on.",
        "lz4 wants the package lz4 in the image.",
        "Blosc left Dask, and lz4 stands in for it.",
        "Use it for studies that died of memory.",
    ],
)
@pytest.mark.parametrize(
    ("name", "template", "line"),
    [
        ("docs/page.md", "# Page\n\n{}\n", 3),
        ("docs/table.md", "| a | b |\n|---|---|\n| 1 | {} |\n", 3),
        ("engine/module.py", '"""{}"""\n', 1),
        ("engine/message.py", 'X = 1\nraise ValueError("{}")\n', 2),
        ("engine/fields.py", 'X = 1\nprint(f"{{X}}: {}")\n', 2),
        ("cli/comment.py", "X = 1\n# {}\n", 2),
        ("schemas/values.yaml", "a:\n  description: >-\n    {}\n", 2),
        ("examples/values/mine.yaml", "# {}\nworkers: {{}}\n", 1),
        ("charts/chart/templates/NOTES.txt", "{{{{ .Release.Name }}}}\n\n{}\n", 3),
        ("charts/chart/templates/pods/_pod.tpl", "{{{{- /* {} */}}}}\n", 1),
        ("Makefile", "all: dev  ## {}\n", 1),
    ],
)
def test_words_to_avoid_are_noticed(tmp_path, name, template, line, text):
    assert ("WORD", line) in findings(tmp_path, name, template.format(text))


def test_plain_english_code_and_links_are_not_words_to_avoid(tmp_path):
    text = """
There is no longer a limit, no more than two workers wait for it, and the tool goes on to the next page.
Call `meanwhile()` or see [the page](docs/meanwhile.md).

```sh
meanwhile whoever
```
"""
    assert findings(tmp_path, "docs/page.md", text) == []


@pytest.mark.parametrize(
    ("summary", "problem"),
    [
        ("Show every value of a release and of its pods.", "46 characters"),
        ("Show every value...", "an ellipsis"),
        ("The studies in the cluster.", "a verb"),
    ],
)
def test_summaries_are_short_imperatives(summary, problem):
    (finding,) = language.check([prose.Passage("mops-helm x", 1, "summary", summary)], RULES)
    assert finding.rule == "SUMMARY" and problem in finding.problem


def test_summaries_of_all_commands_are_read():
    paths = {passage.path for passage in prose.summaries()}
    assert {"mops-helm study", "mops-helm study run", "mops-helm doctor", "mops-helm preset list"} <= paths


@pytest.mark.parametrize("name", ["docs/page.md", "engine/module.py"])
def test_long_sentences_and_paragraphs_are_noticed(tmp_path, name):
    mark = '"""' if name.endswith(".py") else ""
    sentence = " ".join(["It", *["word"] * 43, "ends.\n"])
    assert findings(tmp_path, name, f"{mark}{sentence}{mark}") == []
    assert findings(tmp_path, name, f"{mark}Then {sentence}{mark}") == [("SENTENCE", 1)]
    assert findings(tmp_path, name, f"{mark}{sentence * 2}{mark}") == []
    assert findings(tmp_path, name, f"{mark}{sentence * 2}Yes.{mark}") == [("PARAGRAPH", 1)]


def test_items_and_entries_are_paragraphs_of_their_own(tmp_path):
    words = " ".join(["word"] * 40)
    assert findings(tmp_path, "docs/page.md", f"- {words}\n- {words}\n1. {words}\n") == []
    docstring = f'def f(a, b):\n    """Do it.\n\n    Args:\n        a: {words}\n        b: {words}\n    """\n'
    assert findings(tmp_path, "engine/module.py", docstring) == []
    assert findings(tmp_path, "engine/module.py", docstring.replace("word\n", f"{words}\n", 1)) == [
        ("SENTENCE", 2)
    ]


@pytest.mark.parametrize(
    "name",
    [
        "absent_module.py",
        "store/absent.py",
        "docs/absent.md",
        "modelops_dask.absent",
        "modelops_dask.errors.Absent",
        "mops_helm.main.absent",
        "absent_call()",
        "AbsentClass",
        "absent_name",
        "`absent_name`",
        "MopsError.absent_method",
    ],
)
def test_names_that_do_not_exist_are_noticed(tmp_path, name):
    assert findings(tmp_path, "engine/module.py", f'"""See {name}."""') == [("NAME", 1)]


@pytest.mark.parametrize(
    "name",
    [
        "errors.py",
        "plan/spec.py",
        "docs/cli.md",
        "modelops_dask.errors.MopsError",
        "MopsError",
        "exit_code",
        "print()",
    ],
)
def test_names_that_exist_are_accepted(tmp_path, name):
    assert findings(tmp_path, "engine/module.py", f'"""See {name}."""') == []


def test_documented_arguments_are_parameters(tmp_path):
    text = 'def f(a):\n    """Do it.\n\n    Args:\n        a: The first.\n        b: The second.\n    """\n'
    assert findings(tmp_path, "engine/module.py", text) == [("NAME", 2)]


def rules(exceptions=(), unedited=()):
    return language.Rules(
        words=RULES.words,
        verbs=RULES.verbs,
        products=RULES.products,
        exceptions=exceptions,
        unedited=unedited,
    )


MEND = prose.Passage("docs/a.md", 3, "paragraph", "To mend it, run it.")
EXEMPTION = language.Exemption("docs/a.md", "WORD", '"mend"', "a quotation")


def test_findings_are_excused_by_an_exception_and_in_unedited_files():
    (problem,) = language.find_problems([MEND], rules())
    assert problem.startswith('docs/a.md:3: WORD  "mend" in "To mend it, run it."')
    assert language.find_problems([MEND], rules(exceptions=(EXEMPTION,))) == []
    assert language.find_problems([MEND], rules(unedited=("docs/a.md",))) == []
    assert language.find_problems([MEND], rules(unedited=("docs/a.md",)), {"docs/a.md"}) == [problem]
    assert language.find_problems([MEND], rules(), {"docs/b.md"}) == []


def test_entries_that_excuse_nothing_are_noticed():
    (problem,) = language.find_problems([], rules(exceptions=(EXEMPTION,)))
    assert "matches nothing" in problem
    (problem,) = language.find_problems([], rules(unedited=("docs/a.md",)))
    assert "docs/a.md has no findings any longer" in problem


def test_unedited_files_get_fewer_and_exceptions_stay_few_and_argued():
    assert len(RULES.unedited) <= MOST_UNEDITED
    assert len(set(RULES.unedited)) == len(RULES.unedited)
    assert len(RULES.exceptions) <= MOST_EXCEPTIONS
    assert all(len(exemption.reason.split()) >= 4 for exemption in RULES.exceptions)
