"""File names of outputs for any names that a model uses.

names of outputs -> choose_stems() -> the name of each one's file, without its suffix

A name is quoted as in a URL: letters, digits and - _ . ~ stay, the UTF-8 bytes of other characters become
%XX. Names that file systems cannot distinguish or store end in ~ and a digest:

    longer than MOST_BYTES when quoted             the beginning, ~ and 16 hexadecimal digits
    another output's except for case               the name, ~ and 16 hexadecimal digits
    one that itself ends in ~ and 16 such digits   the same, so that no two outputs share a file
    reserved on Windows (con, nul, com1, ...)      its first letter is quoted

The manifest of results/ maps files to outputs. A file keeps its earlier name.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from urllib.parse import quote, unquote

MOST_BYTES = 200  # a file system allows 255, and programs add suffixes
_DIGEST_BYTES = 8
_HAS_DIGEST = re.compile(r"~[0-9a-f]{16}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def choose_stems(outputs: Iterable[str], former_stems: Mapping[str, str]) -> dict[str, str]:
    """Choose a file name, without its suffix, for each output; no two are equal in any file system.

    Args:
        outputs: Names as the model returned them.
        former_stems: The file names of outputs in the previous tables; they keep them.
    """
    stems = {output: former_stems.get(output) or _stem(output) for output in outputs}
    counts = Counter(stem.casefold() for stem in stems.values())
    return {
        output: _with_digest(output) if counts[stem.casefold()] > 1 and output not in former_stems else stem
        for output, stem in stems.items()
    }


def output_name(stem: str) -> str:
    """The output of a file in a store without names in its manifest, in which digests were never added."""
    return "" if stem == "%" else unquote(stem)


def _stem(output: str) -> str:
    quoted = _quote(output)
    has_room = len(quoted) <= MOST_BYTES and not _HAS_DIGEST.fullmatch(quoted[-17:])
    return quoted if has_room else _with_digest(output)


def _with_digest(output: str) -> str:
    digest = blake2b(output.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    room = MOST_BYTES - 1 - len(digest)
    beginning = output[:room]
    while len(_quote(beginning)) > room:  # by whole characters
        beginning = beginning[:-1]
    return f"{_quote(beginning)}~{digest}"


def _quote(output: str) -> str:
    quoted = quote(output, safe="")
    if quoted.startswith(".") or _RESERVED.match(quoted):
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    return quoted or "%"
