"""What is in a bundle, file by file, and which differences between two bundles cannot change a result.

Bundle -> read_listing() -> Listing;   two Listings -> find_changes() -> a Difference for each file

Two kinds of differences are harmless: a file that .modelopsignore leaves out now, for the person says that
the model does not read it, and a study file that nothing else in the bundle seems to read. For the second,
the other files are searched for the study's name, for patterns that would match it, such as *.yaml, and for
calls that list a folder. A file that may be read is not harmless; naming it in .modelopsignore settles it.

Does not know stores, nor what a study is: whoever asks says which files are studies.
"""

import json
import mmap
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from modelops_dask.bundle import Bundle, tree
from modelops_dask.bundle.cache import read_digests
from modelops_dask.bundle.ignore import IGNORE_FILE

STUDY_ENDINGS = (".yaml", ".yml", ".json")
_DOCUMENTATION = (".md", ".rst")
_STUDY_WORDS = re.compile(b"scenario|entrypoint|model|command")  # one of them is in each study
# What lists the files of a folder, in Python and in other languages.
_LISTS_FILES = re.compile(
    rb"\b(?:listdir|scandir|iterdir|readdir|list\.files|os\.walk)\b|\bglob\(\s*[a-z]?[\"'][^\"']*\*[\"']|\*\.[a-z]?\*"
)


@dataclass(frozen=True)
class Listing:
    """The files of a bundle, each with a digest of kind, name and content, and which are studies."""

    files: Mapping[str, str]
    studies: frozenset[str] = frozenset()

    def as_json(self) -> dict[str, object]:
        """As plain data."""
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
    """How a file differs. `reason` says why that is harmless, or why it may not be."""

    kind: Literal["added", "changed", "removed"]
    file: str
    is_harmless: bool = False
    reason: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.file}" + (f" ({self.reason})" if self.reason else "")


def may_be_study(path: Path) -> bool:
    """Whether a file can be a study, by its ending and a few words; cheap, also for large files."""
    if path.suffix not in STUDY_ENDINGS or path.is_symlink():
        return False
    return _contains(path, _STUDY_WORDS)


def read_listing(bundle: Bundle, studies: Collection[str]) -> Listing:
    """List the files of a bundle. Raises OSError, ValueError."""
    digests = read_digests(bundle.path)
    digests.pop(IGNORE_FILE, None)
    return Listing(digests, frozenset(studies) & digests.keys())


def find_changes(before: Listing, now: Listing, bundle: Bundle) -> list[Difference]:
    """Compare two listings, in the order of names; `bundle` is that of `now`."""
    names = sorted(before.files.keys() | now.files.keys())
    return [
        _judge(name, before, now, bundle) for name in names if before.files.get(name) != now.files.get(name)
    ]


def _judge(name: str, before: Listing, now: Listing, bundle: Bundle) -> Difference:
    kind: Literal["added", "changed", "removed"] = (
        "removed" if name not in now.files else "changed" if name in before.files else "added"
    )
    if kind == "removed" and _is_left_out(name, bundle):
        return Difference(kind, name, is_harmless=True, reason=f"{IGNORE_FILE} names it now")
    if any(name in listing.files and name not in listing.studies for listing in (before, now)):
        return Difference(kind, name)
    if reader := next(_readers(name, now, bundle), ""):
        return Difference(kind, name, reason=f"a study, but {reader} may read it")
    return Difference(kind, name, is_harmless=True, reason="a study")


def _is_left_out(name: str, bundle: Bundle) -> bool:
    """Whether .modelopsignore, which does not count for the digest, so that a copy may be old, leaves a file
    out now.
    """
    folder = Path(bundle.origin) if bundle.origin and Path(bundle.origin).is_dir() else bundle.path
    return tree.is_left_out(folder, PurePosixPath(name), bundle.digest_rule)


def _readers(name: str, listing: Listing, bundle: Bundle) -> Iterator[str]:
    """The files of a bundle that may read the file of this name."""
    path = PurePosixPath(name)
    own_name, ending = re.escape(path.name.encode()), re.escape(path.suffix.removeprefix(".").encode())
    named = re.compile(own_name)
    # The name itself; a pattern or a test of the ending; %s.json; what lists folders.
    may_read = re.compile(
        b"%s|(?<![\\w-])\\.%s\\b|%%[sd]\\.%s\\b|%s" % (own_name, ending, ending, _LISTS_FILES.pattern)
    )
    for other in listing.files:
        file = bundle.path / other
        if other == name or other.endswith(_DOCUMENTATION):
            continue
        if file.is_symlink():
            reads = file.readlink().name == path.name
        else:  # a parameter of another study may be the name
            reads = _contains(file, named if other in listing.studies else may_read)
        if reads:
            yield other


def _contains(path: Path, pattern: re.Pattern[bytes]) -> bool:
    """Whether a pattern is found in a file, which may be larger than memory."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # cannot be mapped
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return pattern.search(content) is not None


def parse_listing(text: bytes) -> Listing | None:
    """A listing as it was stored; None if it is damaged."""
    try:
        return Listing.from_json(json.loads(text))
    except (ValueError, KeyError, TypeError):
        return None
