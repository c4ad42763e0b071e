"""Which file of a bundle may read another one, judged by its text. Approximate: it may name too many files.

    Readers(bundle, its files, its studies).find(name) -> the first file that may read it, or ""

A file may read another if its text has the name, the name without its ending in quotes, an end of the name
("_params.json"), a matching pattern ("conf*"), or a call that lists a folder. Programs build names in
more ways than can be listed here: .modelopsignore is for those, and the self-check compares results.
"""

import mmap
import os
import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from modelops_dask.bundle import Bundle

TEXT_BYTES = 1 << 20  # a larger file is data, and is searched for whole names only
_DOCUMENTATION = (".md", ".rst")
# Files and folders for people, and for tools that models do not run.
_NOT_FOR_MODELS = re.compile(
    r"(^|/)(\.git(hub|lab)?/|\.git\w+$|\.gitlab-ci\.yml$|\.pre-commit-config\.yaml$|\.editorconfig$|\.dockerignore$"
    r"|(README|LICEN[CS]E|CHANGELOG|CONTRIBUTING|NEWS|AUTHORS)(\.txt)?$|CITATION\.cff$|Makefile$|Dockerfile$)"
)
# Files that declare packages: they have the project's name, which studies often have too.
_DECLARATIONS = re.compile(r"(^|/)(pyproject\.toml|setup\.(py|cfg)|uv\.lock|requirements[^/]*\.txt)$")
# Functions that list the files of a folder, in Python and in other languages.
_LISTS_FILES = re.compile(
    r"\b(listdir|scandir|iterdir|opendir|readdir|read_dir|walkdir|list\.files|Sys\.glob|listFiles|nftw|popen"
    r"|directory_iterator|DirectoryStream|resources\.contents)|\bos\.f?walk\b|(?<!ast)\.f?walk\("
    r"|\bimport\b[^\n]*\b(f?walk|contents)\b|\bglob\s+as\b"
)
_GLOB = re.compile(r"\b(?:i|r|ir)?glob\(")  # before its argument
_LITERAL = re.compile(
    r"\s*(?:\w+\s*=\s*)?[rub]?([\"'])([^\"'{}%]*)\1\s*[,)]"
)  # the first argument: plain text
_PATTERN = re.compile(r"[\w./?\[\]-]*\*[\w./?*\[\]-]*")
_SHELL = re.compile(r"#!.*\b(ba|da|z|k)?sh\b")


class Readers:
    """The files of a bundle that may read others. Texts are read once, for any number of names."""

    def __init__(
        self,
        bundle: Bundle,
        files: Iterable[str],
        studies: Collection[str],
        study_values: Collection[str] = (),
    ) -> None:
        """study_values are the texts that the running study passes to its model."""
        self._bundle, self._study_values = bundle, study_values
        self._files = [file for file in files if not _is_for_people(file)]
        self._studies = studies
        self._texts: dict[str, str | None] = {}
        self._answers: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The first file that may read the file of this name; "" if there is none."""
        if name not in self._answers:
            readers = (file for file in self._files if file != name and self._may_read(file, name))
            is_named = any(_may_mean(value, PurePosixPath(name)) for value in self._study_values)
            self._answers[name] = "the study itself" if is_named else next(readers, "")
        return self._answers[name]

    def _may_read(self, file: str, name: str) -> bool:
        target, path = PurePosixPath(name), self._bundle.path / file
        if path.is_symlink():
            return path.readlink().name in (target.name, *(parent.name for parent in target.parents))
        if file not in self._texts:
            self._texts[file] = _read_text(path)
        text = self._texts[file]
        if text is None:
            return _contains(path, target.name.encode())
        if file in self._studies or _DECLARATIONS.search(file):  # a parameter of a study may have this name
            return target.name in text
        return (
            _has_name(text, target)
            or _ends_like(text, target)
            or bool(_LISTS_FILES.search(text))
            or _has_pattern(
                text, target, is_shell=file.endswith((".sh", ".bash")) or bool(_SHELL.match(text))
            )
            or (file.endswith((".R", ".r", ".Rmd")) and re.search(r"\bdir\(", text) is not None)
        )


def list_values(source: Mapping[str, object]) -> set[str]:
    """The texts that a study passes to its model, from the fields that do not describe the study itself."""
    about = ("name", "model", "entrypoint", "scenario", "bundle", "outputs", "volatile", "metadata")
    return _list_texts([value for name, value in source.items() if name not in about])


def _list_texts(value: object) -> set[str]:
    if isinstance(value, str):
        return {value}
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return {text for item in items for text in _list_texts(item)}


def _may_mean(value: str, target: PurePosixPath) -> bool:
    """Whether a model that receives a text may use it to find a file."""
    last = value.rpartition("/")[2]
    return target.name in value or last == target.stem or fnmatch(target.name, last)


def _is_for_people(file: str) -> bool:
    return file.endswith(_DOCUMENTATION) or _NOT_FOR_MODELS.search(file) is not None


def _has_name(text: str, target: PurePosixPath) -> bool:
    """The name; or the name without its suffix, as a word in quotes or at the end of a path."""
    if target.name in text and re.search(rf"(?<![\w-]){re.escape(target.name)}", text):
        return True
    stem = re.escape(target.stem)
    return target.stem in text and bool(
        re.search(rf"[\"'/]{stem}\.?[\"'{{%]|\bconfig_name\s*[=:]\s*{stem}\b", text)
    )


def _ends_like(text: str, target: PurePosixPath) -> bool:
    """A piece of text that is the end of the name, such as ".json" or "_params.json"."""
    ending = target.suffix.lower()
    if re.search(rf"[\"']{ending[1:]}[\"']", text):  # appended to a dot, or compared with a suffix
        return True
    for match in re.finditer(rf"(%[sdif])?([\w-]*){re.escape(ending)}\b", text, re.IGNORECASE):
        if target.name.lower().endswith(match[2].lower() + ending):
            return True
    return False


def _has_pattern(text: str, target: PurePosixPath, is_shell: bool) -> bool:
    """A pattern that matches the name, or one that is not in the text."""
    for match in _GLOB.finditer(text):
        literal = _LITERAL.match(text, match.end())
        pattern = literal[2].rpartition("/")[2] if literal else "*"
        if fnmatch(target.name, pattern) or pattern == "**":
            return True
    for match in _PATTERN.finditer(text):
        pattern = match[0].rpartition("/")[2]
        is_any = not pattern.strip("*")  # in programs, this is usually a product
        if fnmatch(target.name, pattern) and (is_shell or not is_any or "/" in match[0]):
            return True
    return False


def _read_text(path: Path) -> str | None:
    """The text of a file; None for a large or binary one."""
    with path.open("rb") as file:
        data = file.read(TEXT_BYTES + 1)
    return None if len(data) > TEXT_BYTES or b"\0" in data else data.decode("utf-8", "replace")


def _contains(path: Path, name: bytes) -> bool:
    """Whether a name is in a file, which may be larger than memory."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # it cannot be mapped
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(name) >= 0
