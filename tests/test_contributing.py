"""What CONTRIBUTING.md names is there: files, make targets, and the names in files."""

import re
from pathlib import Path

import pytest

from modelops_dask import executors

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CODE_OF_CONDUCT.md", ROOT / ".github" / "pull_request_template.md"]
MAKEFILE = (ROOT / "Makefile").read_text()
# A name, in which of the files that the same step names it is.
NAMES = {
    "SHAPES": "tests/chart/test_chart_presets.py",
    "test_the_presets_are_those_of_the_guides": "tests/chart/test_chart_presets.py",
    "Settings": "engine/modelops_dask/settings.py",
    "settings()": "cli/mops_helm/values/effective.py",
    "OTHER": "tests/chart/test_schema_meta.py",
    "CONTEXT": "tests/chart/test_schema_meta.py",
    "CODES": "cli/mops_helm/values/findings.py",
    "FIXABLE_BY_OTHER_LAYERS": "cli/mops_helm/values/findings.py",
    "check()": "cli/mops_helm/values/check_meaning.py",
    "CHART_REFUSES": "tests/cli/test_values_check.py",
    "Executor": "engine/modelops_dask/executors/__init__.py",
    "create()": "engine/modelops_dask/executors/__init__.py",
    "TYPES": "engine/modelops_dask/executors/__init__.py",
    "EXECUTOR_TYPES": "engine/modelops_dask/settings.py",
    "SAFE_PRESETS": "cli/mops_helm/render/self_check.py",
    "PROCESS_A_TASK": "cli/mops_helm/render/study_plan.py",
    "KINDS": "tests/engine/test_executor_answers.py",
    "EXECUTORS": "tests/leak_matrix.py",
}


def missing_files(text):
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`|\]\(((?!https?:|#|\.\./)[^)#]+)", text)
    return [path for pair in named for path in pair if path and not (ROOT / path).exists()]


def missing_targets(text):
    targets = re.findall(r"^make ([\w-]+)|`make ([\w-]+)", text, re.M)
    return [name for pair in targets for name in pair if name and f"\n.PHONY: {name}\n" not in MAKEFILE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_target_that_is_named_exists(page):
    assert missing_files(page.read_text()) == []
    assert missing_targets(page.read_text()) == []


def test_the_test_above_finds_what_is_missing():
    assert missing_files("`docs/none.md`, `docs/`, [a](docs/gone.md), [b](LICENSE)") == [
        "docs/none.md",
        "docs/gone.md",
    ]
    assert missing_targets("make lint\nmake nothing\n`make never`") == ["nothing", "never"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_in_its_file_and_on_the_page(name):
    assert f"`{name}`" in PAGES[0].read_text() and NAMES[name] in PAGES[0].read_text()
    source, word = (ROOT / NAMES[name]).read_text(), re.escape(name.removesuffix("()"))
    assert re.search(rf"^(?:(?:class|def) {word}[(:]|{word}(?:: [^=]+)? = )", source, re.M)


def lacking_files(executor):
    """The files that "Add an executor" names and that do not mention this one."""
    text = PAGES[0].read_text()
    steps = text[text.index("## Add an executor") : text.index("## Change a dependency")]
    lists = [path for path in re.findall(r"`((?:[\w.-]+/)+[\w-]+\.\w+)`", steps) if path not in EXAMPLES]
    return [path for path in lists if not re.search(rf"\b{executor}\b", (ROOT / path).read_text())]


EXAMPLES = ("engine/modelops_dask/executors/direct.py", "cli/mops_helm/render/study_plan.py")


@pytest.mark.parametrize("executor", executors.TYPES)
def test_every_executor_is_in_the_files_of_the_steps_that_add_one(executor):
    """`direct` isolates nothing, so tests of isolation leave it out."""
    isolation = ("tests/engine/test_executor_answers.py", "tests/engine/test_executor_faults.py")
    lacking = [path for path in lacking_files(executor) if executor != "direct" or path not in isolation]
    assert lacking == [], f"CONTRIBUTING.md, Add an executor: add {executor} to these files"


def test_an_executor_that_was_added_to_no_file_lacks_in_all():
    lacking = lacking_files("isolated_container")
    assert len(lacking) >= 9
    assert {"cli/mops_helm/doctor.py", "docs/executors.md", "tests/leak_matrix.py"} <= set(lacking)


def test_links_within_the_page_lead_to_headings():
    text = PAGES[0].read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)", text, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= headings


def test_the_fast_tests_are_there():
    """Make leaves out what a wildcard does not find, and says nothing of a name that it was given."""
    assert missing_targets("make test-fast") == []
    fast = MAKEFILE[MAKEFILE.index("FAST_TESTS :=") : MAKEFILE.index(".PHONY: test-fast")]
    stems = re.findall(r"tests/(\w+)/test_%\.py,([\w\s\\\\]+)\)", fast)
    paths = [
        f"tests/{folder}/test_{stem}.py"
        for folder, names in stems
        for stem in names.replace("\\", " ").split()
    ]
    assert len(paths) > 20 and [path for path in paths if not (ROOT / path).is_file()] == []
