"""Check the English of docs, help texts, messages, comments and docstrings: `make lint`.

    files -> passages (prose.py: a paragraph, a docstring, a string) -> rules -> findings -> exceptions

language.yaml holds the list of words, the exceptions and the files that are not edited yet. Exit status: 0 if
nothing is left, 1 if there are findings, or entries of language.yaml that can be deleted.
"""

import argparse
import ast
import builtins
import importlib.util
import io
import re
import sys
import tokenize
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prose import Passage, passages, prose_blocks, summaries

ROOT = Path(__file__).resolve().parents[1]
RULES = Path(__file__).with_suffix(".yaml")
MOST_SUMMARY_CHARACTERS = 45
MOST_SENTENCE_WORDS = 45
MOST_PARAGRAPH_WORDS = 90


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}  {self.problem}"


@dataclass(frozen=True)
class Word:
    """An expression to avoid, and what to write instead."""

    pattern: re.Pattern[str]
    instead: str


@dataclass(frozen=True)
class Exemption:
    """Findings of a rule that are accepted in paths that begin so, in passages that contain a text."""

    path: str
    rule: str
    text: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        return (
            finding.path.startswith(self.path) and finding.rule == self.rule and self.text in finding.problem
        )


@dataclass(frozen=True)
class Rules:
    words: tuple[Word, ...]
    verbs: frozenset[str]
    products: frozenset[str]
    exceptions: tuple[Exemption, ...]
    unedited: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("paths", nargs="*", help="Check only these files, also unedited ones.")
    paths = {str(Path(path).resolve().relative_to(ROOT)) for path in parser.parse_args().paths}
    problems = find_problems([*passages(ROOT), *summaries()], read_rules(RULES), paths)
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


def find_problems(prose: Iterable[Passage], rules: Rules, paths: Container[str] = ()) -> list[str]:
    """Lines to print: all findings in the paths or, without paths, those that nothing excuses."""
    findings = check(prose, rules)
    if paths:
        return [str(finding) for finding in findings if finding.path in paths]
    return [*map(str, unexcused(findings, rules)), *stale(findings, rules)]


def read_rules(path: Path) -> Rules:
    document = yaml.safe_load(path.read_text())
    return Rules(
        words=tuple(
            Word(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), instead)
            for pattern, instead in document["words"].items()
        ),
        verbs=frozenset(document["verbs"].split()),
        products=frozenset(document["products"].split()),
        exceptions=tuple(Exemption(**entry) for entry in document["exceptions"]),
        unedited=tuple(document["unedited"]),
    )


def unexcused(findings: Iterable[Finding], rules: Rules) -> list[Finding]:
    """Findings outside unedited files that no exception covers."""
    return [
        finding
        for finding in findings
        if finding.path not in rules.unedited and not any(item.covers(finding) for item in rules.exceptions)
    ]


def stale(findings: list[Finding], rules: Rules) -> list[str]:
    """Entries of the rules that can be deleted: the list of unedited files only shrinks."""
    open_paths = {
        finding.path for finding in findings if not any(item.covers(finding) for item in rules.exceptions)
    }
    return [
        *(
            f"{RULES.name}: {path} has no findings any longer; delete it from unedited"
            for path in rules.unedited
            if path not in open_paths
        ),
        *(
            f"{RULES.name}: the exception for {item.text!r} in {item.path} matches nothing; delete it"
            for item in rules.exceptions
            if not any(map(item.covers, findings))
        ),
    ]


# Rules


def check(prose: Iterable[Passage], rules: Rules) -> list[Finding]:
    """What the rules find in the passages."""
    functions: dict[str, Callable[[Passage, Rules], Iterator[str]]] = {
        "WORD": avoided_words,
        "SUMMARY": bad_summaries,
        "SENTENCE": long_sentences,
        "PARAGRAPH": long_paragraphs,
        "NAME": unknown_names,
    }
    return [
        Finding(passage.path, passage.line, rule, problem)
        for passage in prose
        for rule, function in functions.items()
        for problem in function(passage, rules)
    ]


def avoided_words(passage: Passage, rules: Rules) -> Iterator[str]:
    text = " ".join(passage.text.split())
    for word in rules.words:
        for match in word.pattern.finditer(text):
            context = text[max(0, match.start() - 25) : match.end() + 25]
            yield f'"{match[0]}" in "{context}": {word.instead}'


def bad_summaries(passage: Passage, rules: Rules) -> Iterator[str]:
    if passage.kind != "summary":
        return
    summary = passage.text
    if len(summary) > MOST_SUMMARY_CHARACTERS:
        yield f"{len(summary)} characters, at most {MOST_SUMMARY_CHARACTERS}: {summary}"
    if summary.endswith("..."):
        yield f"ends in an ellipsis: {summary}"
    if summary.partition(" ")[0].lower().rstrip(",") not in rules.verbs:
        yield f"does not begin with a verb of {RULES.name}: {summary}"


def long_sentences(passage: Passage, _: Rules) -> Iterator[str]:
    for block in prose_blocks(passage):
        for sentence in re.split(r"(?<=[.!?])[\"')]*\s+(?=[\"'(`]|[A-Z])", block):
            n_words = len(sentence.split())
            if n_words > MOST_SENTENCE_WORDS:
                yield f"a sentence of {n_words} words, at most {MOST_SENTENCE_WORDS}: {sentence[:60]}"


def long_paragraphs(passage: Passage, _: Rules) -> Iterator[str]:
    if passage.kind not in ("paragraph", "docstring"):
        return
    for block in prose_blocks(passage):
        n_words = len(block.split())
        if n_words > MOST_PARAGRAPH_WORDS:
            yield f"a paragraph of {n_words} words, at most {MOST_PARAGRAPH_WORDS}: {block[:60]}"


# Names in docstrings


def unknown_names(passage: Passage, rules: Rules) -> Iterator[str]:
    if passage.kind != "docstring":
        return
    for name in mentioned_names(" ".join(prose_blocks(passage))):
        if name not in rules.products and not name_exists(name):
            yield f"{name} does not exist"
    if isinstance(passage.node, ast.FunctionDef | ast.AsyncFunctionDef):
        parameters = {node.arg for node in ast.walk(passage.node.args) if isinstance(node, ast.arg)}
        for name in argument_names(passage.text):
            if name not in parameters:
                yield f"Args: {name} is not a parameter of {passage.node.name}"


def argument_names(docstring: str) -> list[str]:
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    return re.findall(r"^    \*{0,2}(\w+):", section[1], re.MULTILINE) if section else []


def mentioned_names(text: str) -> list[str]:
    """Unquoted words that look like code: dotted, called, or with an underscore or a capital inside."""
    text = re.sub(r'"[^"]*"', " ", text)
    pattern = r"""
        (?<![\w./$<>@-])
        ( [\w/-]*/\w+\.py | \w+\.py | docs/[\w/-]+\.md # files
        | modelops_dask(?:\.\w+)+ | mops_helm(?:\.\w+)+
        | [A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?=\(\))    # calls
        | [A-Z]\w+(?:\.[a-z_]\w+)+                   # attributes of classes
        | [A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+          # classes
        | [A-Za-z]\w*_\w*                            # with an underscore
        ) (?![\w/*<{=-])
    """
    return re.findall(pattern, text, re.VERBOSE)


def name_exists(name: str) -> bool:
    if name.endswith(".py"):
        return any(file.endswith(f"/{name}") for file in file_names())
    if name.endswith(".md"):
        return (ROOT / name).is_file()
    parts = name.split(".")
    if parts[0] in ("modelops_dask", "mops_helm"):
        return module_has(parts)
    return all(part in known_names() or hasattr(builtins, part) for part in parts)


@cache
def file_names() -> frozenset[str]:
    folders = ("cli", "engine", "tests", "tools", "benchmarks", "image", "examples")
    return frozenset(
        f"/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).rglob("*.py")
    )


def module_has(parts: list[str]) -> bool:
    """Whether modelops_dask.a.b is a module, or b a name at the top of module modelops_dask.a."""
    for length in range(len(parts), 0, -1):
        try:
            spec = importlib.util.find_spec(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        if spec is not None and spec.origin is not None:
            source = Path(spec.origin).read_text()
            return all(re.search(rf"\b{part}\b", source) for part in parts[length:])
    return False


@cache
def known_names() -> frozenset[str]:
    """Every word of the code, its data and the chart, but not of comments and docstrings."""
    words: set[str] = set()
    for path in [*(ROOT / "engine").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]:
        words.update(code_words(path.read_text()))
    for pattern in ("schemas/*", "charts/modelops-dask/templates/**/*", "pyproject.toml"):
        for path in filter(Path.is_file, ROOT.glob(pattern)):
            words.update(re.findall(r"\w+", path.read_text()))
    return frozenset(words)


def code_words(source: str) -> Iterator[str]:
    previous: Any = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        statement = previous in (None, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type in (tokenize.NL, tokenize.COMMENT):
            continue
        if token.type not in (tokenize.STRING,) or not statement:
            yield from re.findall(r"\w+", token.string)
        previous = token.type


if __name__ == "__main__":
    sys.exit(main())
