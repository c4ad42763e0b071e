"""The prose of the project: docs, docstrings, comments, messages, and the summaries of commands."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import yaml

SOURCES = (
    *("*.md", "*.cff", "Makefile", "docs/**/*.md", "examples/*.md", "engine/**/*.py", "cli/**/*.py"),
    *("schemas/*.yaml", "values/*.yaml", "examples/values/*.yaml", "cli/**/questions.yaml"),
    *("cli/mops_helm/scaffold/files/*.md", "cli/mops_helm/scaffold/files/*.yaml"),
    *("charts/*/templates/**/*.txt", "charts/*/templates/**/*.tpl", "charts/*/README.md", ".github/**/*.md"),
)
UNREAD = ("CHANGELOG.md",)  # history
CODE = "CODE"  # stands for inline code, a link's address or an f-string's field
ENTRIES = r"(Args|Attributes|Raises|Returns|Yields):"
FEWEST_MESSAGE_WORDS = 3  # shorter strings are keys, patterns and names


@dataclass(frozen=True)
class Passage:
    """A piece of prose and its position.

    Attributes:
        kind: "paragraph" or "cell" of a page, "docstring", "comment", "string" of code or YAML, or "summary"
            of a command.
        node: What a docstring documents.
    """

    path: str
    line: int
    kind: str
    text: str
    node: ast.AST | None = field(default=None, compare=False)


def passages(root: Path) -> Iterator[Passage]:
    """All prose in the files of the project, in the order of their paths."""
    for path in sorted({path for pattern in SOURCES for path in root.glob(pattern)}):
        name = str(path.relative_to(root))
        if not name.startswith(UNREAD):
            yield from READERS[path.suffix](name, path.read_text())


def page_passages(path: str, text: str) -> Iterator[Passage]:
    """Paragraphs, list items and table cells of a Markdown page; fenced code is left out."""
    lines: list[str] = []
    fenced, start = False, 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fence = line.lstrip().startswith("```")
        breaks = fence or fenced or not line.strip() or re.match(r"\s*([-*] |\d+\. |#|\|)", line)
        if breaks and lines:
            yield Passage(path, start, "paragraph", plain(" ".join(lines)))
            lines = []
        fenced ^= fence
        if fenced or fence or not line.strip() or re.fullmatch(r"[\s|:-]+", line):
            continue
        if line.lstrip().startswith("|"):
            for cell in line.strip().strip("|").split("|"):
                yield Passage(path, number, "cell", plain(cell))
            continue
        start = start if lines else number
        lines.append(re.sub(r"^\s*([-*]|\d+\.|#+) ", "", line).strip())


def plain(text: str) -> str:
    """Markdown without its marks; code and addresses are one word each."""
    text = re.sub(r"`[^`]*`", CODE, text)
    text = re.sub(r"\]\([^)]*\)", "", text)
    return re.sub(r"[\[\]*]|<https?:[^>]*>", "", text).strip()


def code_passages(path: str, text: str) -> Iterator[Passage]:
    """Docstrings and the strings that read like sentences: messages, help, pages."""
    tree = ast.parse(text)
    constants: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node)
        if docstring is not None:
            expression = node.body[0]
            constants.add(id(expression.value))  # type: ignore[attr-defined]  # a docstring is an Expr
            yield Passage(path, expression.lineno, "docstring", docstring, node)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            constants.update(map(id, node.values))
            yield from message(path, node, "".join(map(field_text, node.values)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in constants:
            yield from message(path, node, node.value)
    yield from comments(path, text)


def comments(path: str, text: str) -> Iterator[Passage]:
    """Comments of Python or YAML; those on successive lines are one passage."""
    lines: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        match = re.match(r"\s*# ?(.*)", line)
        if match:
            lines.append(match[1])
        elif lines:
            yield Passage(path, number - len(lines), "comment", plain("\n".join(lines)))
            lines = []
        if trailing := re.search(r"\S  # (\w.*)$", line):
            yield Passage(path, number, "comment", plain(trailing[1]))


def yaml_passages(path: str, text: str) -> Iterator[Passage]:
    """Descriptions and other texts of a YAML file, and its comments."""
    documents = [yaml.compose(text, yaml.SafeLoader)]
    while documents:
        node = documents.pop()
        if isinstance(node, yaml.ScalarNode):
            if len(re.findall(r"\b[a-z]+\b", node.value)) >= FEWEST_MESSAGE_WORDS:
                yield Passage(path, node.start_mark.line + 1, "string", plain(node.value))
        elif isinstance(node, yaml.CollectionNode):
            for child in node.value:
                documents.extend(child if isinstance(child, tuple) else [child])
    yield from comments(path, text)


def template_passages(path: str, text: str) -> Iterator[Passage]:
    """Comments of a template, and the lines that it renders; an expression is one word."""
    for comment in re.finditer(r"\{\{-?\s*/\*(.*?)\*/\s*-?\}\}", text, re.DOTALL):
        yield Passage(path, text.count("\n", 0, comment.start()) + 1, "comment", plain(comment[1]))
    rendered = re.sub(r"\{\{.*?\}\}", lambda match: CODE + "\n" * match[0].count("\n"), text, flags=re.DOTALL)
    for number, line in enumerate(rendered.splitlines(), 1):
        if len(re.findall(r"\b[a-z]+\b", line)) >= FEWEST_MESSAGE_WORDS:
            yield Passage(path, number, "string", plain(line))


def target_passages(path: str, text: str) -> Iterator[Passage]:
    """What `make help` prints of each target, and the comments of a Makefile."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"[a-z0-9-]+:.*## (.*)", line):
            yield Passage(path, number, "string", plain(match[1]))
    yield from comments(path, text)


READERS = {
    **{".md": page_passages, ".py": code_passages, ".yaml": yaml_passages, ".cff": yaml_passages},
    "": target_passages,
    **{".txt": template_passages, ".tpl": template_passages},
}


def field_text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else CODE


def message(path: str, node: ast.expr, text: str) -> Iterator[Passage]:
    if len(re.findall(r"\b[a-z]+\b", text)) >= FEWEST_MESSAGE_WORDS:
        yield Passage(path, node.lineno, "string", plain(text))


def summaries() -> Iterator[Passage]:
    """The line of each command that its group's --help prints."""
    from mops_helm.main import main as group

    yield from command_summaries(group, click.Context(group, info_name="mops-helm"))


def command_summaries(group: click.Group, context: click.Context) -> Iterator[Passage]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        nested = click.Context(command, context, name)
        yield Passage(nested.command_path, 1, "summary", command.get_short_help_str(limit=1000))
        if isinstance(command, click.Group):
            yield from command_summaries(command, nested)


def prose_blocks(passage: Passage) -> Iterator[str]:
    """Paragraphs, items and entries of `Args:`, each on one line; diagrams and code are left out."""
    if passage.kind == "string":
        yield from filter(None, re.split(r"\n+", passage.text))
        return
    block: list[str] = []
    in_entries = False
    for line in [*passage.text.splitlines(), ""]:
        in_entries = bool(re.fullmatch(ENTRIES, line)) or (in_entries and line.startswith((" ", "\t")))
        starts = re.match(r" {4}\S" if in_entries else r"[-*] |\d+\. ", line) or re.fullmatch(ENTRIES, line)
        diagram = line.startswith("   ") and not in_entries
        if block and (starts or diagram or not line.strip()):
            yield " ".join(block)
            block = []
        if line.strip() and not diagram:
            block.append(line.strip())
