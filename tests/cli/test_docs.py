"""The documents are true: their commands run, their files pass the checks, their links lead somewhere.

A block marked `console` is typed in, line by line, in one folder per document; what a command prints is
compared where the mark is `console output`. `yaml values`, `yaml study` and `yaml workspace` are given to the
command that reads them, `yaml study part` under a model and a scenario. `python FILE` and `yaml study FILE`
are written to that file before. Blocks without a mark are pictures.
"""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDE_WORKSPACE = """\
spec:
  workers:
    replicas: 4
    processes: 4
    threads: 1
    resources:
      requests: {memory: 4Gi, cpu: "2"}
      limits: {memory: 4Gi, cpu: "2"}
    env:
      - name: MODELOPS_EXECUTOR_TYPE
        value: direct
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it starts, what follows the fence, and its lines."""

    path: Path
    line: int
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    found = re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [
        Block(path, text.count("\n", 0, match.start()) + 1, match[1].strip(), match[2]) for match in found
    ]


BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
STUDY_FILE, RESULTS, PYTHON = (
    blocks(ROOT / "docs" / f"{name}.md") for name in ("study-file", "results", "python")
)


def marked(mark: str) -> list[Block]:
    return [block for block in BLOCKS if block.mark == mark]


def mops_helm(*args: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mops_helm.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def python(text: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=cwd, timeout=300)


def files(path: Path) -> dict[str, str]:
    """The files that a document shows, by the name in their mark."""
    named = [
        (re.fullmatch(r"(?:python|yaml study) (\S*[./]\S*)", block.mark), block) for block in blocks(path)
    ]
    return {match[1]: block.text for match, block in named if match}


MEASURED = re.compile(
    r"(?:[\d.,]+ (?:ms|s|min|h|MiB)\b ?)+|[\d.,]+ a second|Self-check: .*(?:\n  mops-helm study verify .*)?"
)


def mask_measured(text: str) -> str:
    """Output without times, rates, memory, and the self-check, which depend on the machine."""
    return MEASURED.sub("N", text)


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if any(b.mark.startswith("console") for b in blocks(path))],
    ids=lambda p: p.name,
)
def test_commands_run(path, tmp_path):
    for name in ("examples", "values", "charts"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "mine.yaml").write_text("workers:\n  replicas: 2\n")
    (tmp_path / "workspace.yaml").write_text(GUIDE_WORKSPACE)
    for name, content in files(path).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    for block in (block for block in blocks(path) if block.mark.startswith("console")):
        for line in block.text.splitlines():
            if not line.startswith("$ "):
                continue
            program, *args = shlex.split(line.removeprefix("$ "), comments=True)
            assert program == "mops-helm", f"{block}: {line}"
            if args[:2] == ["preset", "render"] and "--values" not in args and not shutil.which("helm"):
                continue
            done = mops_helm(*args, cwd=tmp_path)
            assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"
            if block.mark == "console output":
                assert mask_measured(f"{line}\n{done.stdout}") == mask_measured(block.text), str(block)


def test_measured_numbers_are_masked_and_counts_are_not():
    assert mask_measured("2,000 tasks in 3.9 s, 507 a second, 14 MiB") == "2,000 tasks in N, N, N"
    assert mask_measured("2,000 tasks in 1 min 15 s, 27 a second") == "2,000 tasks in N, N"


@pytest.mark.parametrize("block", marked("yaml values"), ids=str)
def test_values_are_good(block, tmp_path):
    (tmp_path / "doc.yaml").write_text(block.text)
    done = mops_helm("values", "check", "doc.yaml", cwd=tmp_path)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("block", marked("yaml study") + marked("yaml study part"), ids=str)
def test_studies_are_good(block, tmp_path):
    is_part_of_a_model = block.mark.endswith("part") and "command:" not in block.text
    head = "model: model.run\nscenario: baseline\n" if is_part_of_a_model else ""
    (tmp_path / "doc.yaml").write_text(head + block.text)
    done = mops_helm("study", "plan", "doc.yaml", cwd=tmp_path)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


@pytest.fixture
def sir(tmp_path):
    """A copy of examples/sir, to paste a study into."""
    return Path(shutil.copytree(ROOT / "examples" / "sir", tmp_path / "sir"))


def test_the_first_study_runs_beside_the_example(sir, tmp_path):
    """Also with the page's sample in place of its grid."""
    first, sample = (
        block.text for block in STUDY_FILE if block.mark.startswith("yaml study") and "r0" in block.text
    )
    for text in (first, first.partition("fixed:")[0] + sample):
        (sir / "study.yaml").write_text(text)
        done = mops_helm("study", "try", "sir/study.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_results_are_read_in_python_with_what_is_installed(sir, tmp_path):
    """The page's own lines, after its first study, where there is no pandas."""
    (text,) = [block.text for block in RESULTS if "store.results import" in block.text]
    first = next(block.text for block in STUDY_FILE if block.mark == "yaml study")
    (sir / "study.yaml").write_text(
        first.replace("num: 20", "num: 2").replace("replicates: 30", "replicates: 1")  # a moment
    )
    done = mops_helm("study", "run", "sir/study.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "pandas.py").write_text("raise ModuleNotFoundError('pandas')\n")
    read = python(text, cwd=tmp_path)
    assert read.returncode == 0, read.stderr
    assert "infections_mean" in read.stdout


def test_a_study_in_python_is_the_one_of_a_file(tmp_path, monkeypatch):
    """The page's own lines have the tasks that the same range in a study.yaml has."""
    monkeypatch.chdir(tmp_path)
    (text,) = [block.text for block in PYTHON if "import Study, run" in block.text]
    page: dict = {"__name__": "page"}
    exec(text, page)
    grid = "grid: {r0: {low: 0.8, high: 4.0, num: 5}, infectious_days: [2, 12]}\n"
    (tmp_path / "study.yaml").write_text(f"model: models.sir.simulate\nscenario: baseline\n{grid}")
    assert page["study"].spec.table.equals(page["Study"].load("study.yaml").spec.table)


@pytest.mark.parametrize("block", marked("yaml workspace"), ids=str)
def test_workspaces_convert(block, tmp_path):
    (tmp_path / "doc.yaml").write_text(block.text)
    done = mops_helm("values", "convert", "doc.yaml", cwd=tmp_path)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def test_every_yaml_block_is_checked():
    assert [str(block) for block in BLOCKS if block.mark in ("yaml", "yml")] == [], (
        "mark it: yaml values, ..."
    )


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Links to files or headings that are not there; those to other sites are not followed."""
    links = re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", path.read_text())
    pages = [(path.parent / target if target else path, anchor) for target, anchor in links]
    return [
        f"{page.name}#{anchor}"
        for page, anchor in pages
        if not page.exists() or (anchor and anchor not in anchors(page))
    ]


def test_broken_links_are_noticed(tmp_path):
    (tmp_path / "page.md").write_text(
        "# A page\n[a](page.md#a-page) [b](page.md#b) [c](c.md) [d](#d) [e](#a-page)\n"
    )
    assert broken_links(tmp_path / "page.md") == ["page.md#b", "c.md#", "page.md#d"]


def test_the_index_lists_every_page_once():
    index = (ROOT / "docs" / "README.md").read_text()
    listed = re.findall(r"^\| \[.*\]\(([a-z-]+\.md)\)", index, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("[a-z]*.md"))


def test_every_page_that_code_names_exists():
    """Messages, docstrings and comments send people to docs/NAME.md."""
    sources = [
        path
        for folder in ("engine", "cli", "charts", "schemas", "tools", "examples", "image")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".md", ".tpl", ".txt", ".sh")
    ]
    named = {
        name for path in sources for name in re.findall(r"docs/[a-z-]+\.md", path.read_text(errors="replace"))
    }
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_make_targets_exist(path):
    assert broken_links(path) == []
    text = path.read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:`|^\$? ?)make ([a-z][\w-]*)", text, re.MULTILINE):
        assert target in targets, f"{path.name}: make {target}"


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if "make install" in path.read_text()], ids=lambda path: path.name
)
def test_who_is_told_to_install_is_told_how_the_command_is_found(path):
    text = path.read_text()
    assert ". .venv/bin/activate" in text or 'export PATH="$PWD/.venv/bin:' in text


def test_a_first_study_names_every_file_of_a_new_one(tmp_path):
    assert mops_helm("study", "new", "measles", cwd=tmp_path).returncode == 0
    table = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "getting-started.md").read_text(), re.MULTILINE)
    assert sorted(table) == sorted(path.name for path in (tmp_path / "measles").iterdir())
