"""The files of a bundle, and which differences between two bundles cannot change a result.

Bundle -> read_listing() -> Listing;   two Listings -> find_changes() -> a Difference for each file

Two kinds of differences are harmless: a file that .modelopsignore now excludes, because that states that the
model does not read it, and a study file that nothing else in the bundle seems to read. For the second kind,
the other files are searched for the study's name, for patterns that match it, such as *.yaml, and for calls
that list a folder. A file that may be read is not harmless; listing it in .modelopsignore makes it so.

This module does not know stores or studies: the caller says which files are studies.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from modelops_dask.bundle import Bundle, tree
from modelops_dask.bundle.cache import read_digests
from modelops_dask.bundle.ignore import IGNORE_FILE
from modelops_dask.bundle.readers import Readers

STUDY_ENDINGS = (".yaml", ".yml", ".json")
STUDY_BYTES = 1 << 20  # largest study file among the files of a bundle; a larger one is data
# The fields that each study has at its top: what it runs, and how often or with which values.
_RUNS = re.compile(rb"^[{\s]*[\"']?(scenario|entrypoint|model|command)[\"']?\s*:", re.MULTILINE)
_VALUES = re.compile(
    rb"\b(sets|grid|fixed|parameter_sets|replicates|n_replicates|latin[-_]hypercube|sobol|parameters)[\"']?\s*:"
)
# Files that the engine itself reads: without them, a bundle runs other packages or calls another function.
_OF_THE_ENGINE = re.compile(
    r"(^|/)(pyproject\.toml|setup\.(py|cfg)|uv\.(lock|toml)|pylock[^/]*\.toml|requirements[^/]*\.txt|constraints[^/]*\.txt"
    r"|\.python-version)$|^wire\.py$|^\.modelops(-bundle)?/"
)


@dataclass(frozen=True)
class Listing:
    """The files of a bundle, each with a digest of kind, name and content, and the study files among them."""

    files: Mapping[str, str]
    studies: frozenset[str] = frozenset()

    def as_json(self) -> dict[str, object]:
        """The listing as plain data."""
        return {"files": dict(self.files), "studies": sorted(self.studies)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "Listing":
        """The inverse of as_json(). Raises KeyError, TypeError, ValueError."""
        files, studies = value["files"], value["studies"]
        if not isinstance(files, dict) or not isinstance(studies, list):
            raise TypeError("not a listing")
        return cls({str(name): str(digest) for name, digest in files.items()}, frozenset(map(str, studies)))


@dataclass(frozen=True)
class Difference:
    """How a file differs. `reason` explains why that is harmless, or why it may not be."""

    kind: Literal["added", "changed", "removed"]
    file: str
    is_harmless: bool = False
    reason: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.file}" + (f" ({self.reason})" if self.reason else "")


def may_be_study(path: Path) -> bool:
    """Whether a file can be a study, judged by its suffix, its size and a few words."""
    if path.suffix not in STUDY_ENDINGS or path.is_symlink() or path.stat().st_size > STUDY_BYTES:
        return False
    content = path.read_bytes()
    return bool(_RUNS.search(content) and _VALUES.search(content))


def is_of_the_engine(name: str) -> bool:
    """Whether the engine reads a file itself: it determines the packages, or the function that is called."""
    return _OF_THE_ENGINE.search(name) is not None


def read_listing(bundle: Bundle, studies: Collection[str]) -> Listing:
    """List the files of a bundle. Raises OSError, ValueError."""
    digests = read_digests(bundle.path)
    digests.pop(IGNORE_FILE, None)
    return Listing(digests, frozenset(studies) & digests.keys())


def find_changes(
    before: Listing, now: Listing, bundle: Bundle, readers: Readers | None = None
) -> list[Difference]:
    """Compare two listings, ordered by name; `bundle` and `readers` are those of `now`."""
    names = sorted(before.files.keys() | now.files.keys())
    readers = readers or Readers(bundle, now.files, now.studies)
    return [
        _judge(name, before, now, bundle, readers)
        for name in names
        if before.files.get(name) != now.files.get(name)
    ]


def _judge(name: str, before: Listing, now: Listing, bundle: Bundle, readers: Readers) -> Difference:
    kind: Literal["added", "changed", "removed"] = (
        "removed" if name not in now.files else "changed" if name in before.files else "added"
    )
    if kind == "removed" and tree.is_left_out(bundle.path, PurePosixPath(name), bundle.digest_rule):
        if is_of_the_engine(name):
            return Difference(kind, name, reason=f"{IGNORE_FILE} now excludes it, but the engine read it")
        return Difference(kind, name, is_harmless=True, reason=f"{IGNORE_FILE} now excludes it")
    if any(name in listing.files and name not in listing.studies for listing in (before, now)):
        return Difference(kind, name)
    if reader := readers.find(name):
        return Difference(kind, name, reason=f"a study, but {reader} may read it")
    return Difference(kind, name, is_harmless=True, reason="a study")


def parse_listing(text: bytes) -> Listing | None:
    """Parse a stored listing; None if it is damaged."""
    try:
        return Listing.from_json(json.loads(text))
    except (ValueError, KeyError, TypeError):
        return None
