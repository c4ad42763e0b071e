"""Which files of a folder are left out of a bundle: built-in patterns, then the lines of .modelopsignore.

    folder -> read_ignore_rules() -> a function: is this file or folder left out?

A bundle's digest depends on the files that are left out, so the way of reading patterns has a number, the
digest rule. Rule 1 is fnmatch's: `*` also matches slashes. Studies of earlier versions keep it. Rule 2 is
that of .gitignore. A folder without .modelopsignore has the same files under both.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from modelops_dask.errors import BadInput

IGNORE_FILE = ".modelopsignore"
DIGEST_RULE = 2  # of new studies
DIGEST_RULES = (DIGEST_RULE, 1)  # all known rules, in the order in which they are tried
# Files that no model reads. A leading slash means the bundle's top folder. Studies are left out, because a
# study with more replicates is a request to the same model; so are ModelOps' records of pushes, and reports.
IGNORED = [
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    "*.pyc",
    "*.egg-info",
    ".pytest_cache",
    ".ruff_cache",
    ".mypy_cache",
    ".ipynb_checkpoints",
    ".idea",
    ".vscode",
    ".DS_Store",
    "__MACOSX",
    "/.modelops-bundle/state.json",
    "/out",
    "/study*.yaml",
    "/study*.yml",
    "/study*.json",
    "/report.html",
]
# In rule 1, /study*.yaml also matches studies/a/b.yaml. So it does in rule 2, to keep the digests of bundles.
_IGNORED_BELOW = ["/study*/**/*.yaml", "/study*/**/*.yml", "/study*/**/*.json"]

LeavesOut = Callable[[PurePosixPath, bool], bool]  # a path in the bundle, and whether it is a folder


def read_ignore_rules(folder: Path, digest_rule: int = DIGEST_RULE) -> LeavesOut:
    """Read which files a folder leaves out, as a function of their paths in it.

    Raises BadInput for an ignore file that cannot be read as such, and for a digest rule of a later version.
    """
    path = folder / IGNORE_FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        text = ""
    except ValueError:
        raise BadInput(f"{path}: not UTF-8; save the file as UTF-8") from None
    if digest_rule == 1:
        return _compile_rule_1(text.splitlines())
    if digest_rule == 2:
        return _compile_rule_2(text.removeprefix("\ufeff").split("\n"), path)
    raise BadInput(
        f"unknown digest rule {digest_rule}; this version knows rules 1 and 2, use a newer mops-helm"
    )


def _compile_rule_1(lines: Sequence[str]) -> LeavesOut:
    patterns = [*IGNORED, *(line.strip() for line in lines if line.strip() and not line.startswith("#"))]

    def leaves_out(path: PurePosixPath, is_folder: bool) -> bool:
        is_ignored = False
        for line in patterns:
            pattern = line.removeprefix("!")
            if pattern.endswith("/") and not is_folder:
                continue
            pattern = pattern.rstrip("/")
            subject = path.as_posix() if "/" in pattern else path.name
            if fnmatch.fnmatchcase(subject, pattern.removeprefix("/")):
                is_ignored = not line.startswith("!")
        return is_ignored

    return leaves_out


def _compile_rule_2(lines: Sequence[str], path: Path) -> LeavesOut:
    from pathspec import GitIgnoreSpec

    def compile_lines(lines: Sequence[str]) -> GitIgnoreSpec:
        # In pathspec, data/** also matches the folder data. In Git it does not, so its files can be included.
        lines = [re.sub(r"/\*\*\s*$", "/**/*", line) for line in lines]
        # Not the fastest library that happens to be installed: every machine must find the same files.
        return GitIgnoreSpec.from_lines(lines, backend="simple")

    for number, line in enumerate(lines, 1):
        try:
            compile_lines([line])
        except (ValueError, re.error):
            raise BadInput(
                f"{path}:{number}: {line.strip()!r} is not a .gitignore pattern; correct or remove the line"
            ) from None
    spec = compile_lines([*IGNORED, *_IGNORED_BELOW, *lines])

    def leaves_out(path: PurePosixPath, is_folder: bool) -> bool:
        return spec.match_file(f"{path.as_posix()}/" if is_folder else path.as_posix())

    return leaves_out
