"""What a reference to a bundle means, read from its text alone.

    models/sir                               path: a folder, or an archive, on this machine
    https://HOST/sir.tar.gz, s3://B/sir.zip  url: an archive behind any fsspec URL
    HOST/REPOSITORY:TAG, oci://HOST/…        artifact: in an OCI registry
    sha256:DIGEST, NAME@sha256:DIGEST        digest: what the cache holds

The first three may end in @sha256:DIGEST and then mean nothing else: an artifact's is that of its manifest,
the others' that of the tree. Does not look at any file or host: the other modules of this package do.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from modelops_dask.errors import BadInput

_DIGEST = r"sha256:[0-9a-f]{64}"
_PINNED = re.compile(rf"(?:(?P<where>.*)@)?(?P<digest>{_DIGEST})", re.DOTALL)
_PATH = re.compile(r"(?:[/~]|\.\.?(?:/|$))")  # how a path begins that cannot be anything else
# A host has a dot or a port, or is localhost: otherwise models/sir:v1 could be a folder.
_HOST = r"(?:localhost(?::\d+)?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?|[A-Za-z0-9-]+:\d+)"
_ARTIFACT = re.compile(
    rf"(?P<repository>{_HOST}(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+)(?::(?P<tag>\w[\w.-]{{0,127}}))?"
)


@dataclass(frozen=True)
class Reference:
    """`where` is a path, a URL, HOST/REPOSITORY[:TAG], or any name; `digest` is "" or sha256:…"""

    kind: Literal["path", "url", "artifact", "digest"]
    where: str
    digest: str = ""

    def __str__(self) -> str:
        """As it is written, without what may be secret in a URL."""
        return redact("@".join(filter(None, (self.where, self.digest))))

    def text(self) -> str:
        """As it is written: parse() gives the same again."""
        where = f"oci://{self.where}" if self.kind == "artifact" else self.where
        return "@".join(filter(None, (where, self.digest)))


def parse(text: str) -> Reference:
    """The reference that a text is. Raises BadInput for one that can mean nothing."""
    pinned = _PINNED.fullmatch(text)
    where, digest = (pinned["where"] or "", pinned["digest"]) if pinned else (text, "")
    if where.startswith("oci://"):
        return _artifact(where.removeprefix("oci://"), digest)
    if where.startswith("file://"):
        return Reference("path", where.removeprefix("file://"), digest)
    if "://" in where:
        if re.search(r"://[^/]*@", where):
            raise BadInput(
                f"bundle {redact(text)}: a password in a URL ends up in logs; leave it out "
                "(~/.netrc, variables or a configuration of fsspec hold it)"
            )
        return Reference("url", where, digest)
    if _PATH.match(where):
        return Reference("path", where, digest)
    found = _ARTIFACT.fullmatch(where)
    if found and (found["tag"] or digest):
        return _artifact(where, digest)
    if not where and not digest:
        raise BadInput("a bundle's reference is empty")
    return Reference("digest" if digest else "path", where, digest)


def _artifact(where: str, digest: str) -> Reference:
    found = _ARTIFACT.fullmatch(where)
    if not found:
        raise BadInput(f"bundle oci://{redact(where)}: write oci://HOST/REPOSITORY:TAG, in small letters")
    if not (found["tag"] or digest):
        raise BadInput(f"bundle {where}: say which: {where}:TAG or {where}@sha256:DIGEST")
    return Reference("artifact", found["repository"] if digest else where, digest)


def anchored(text: str, folder: Path) -> str:
    """The same reference with a path made absolute, from a folder. Raises BadInput."""
    found = parse(text)
    if found.kind != "path":
        return text
    return replace(found, where=str((folder / Path(found.where).expanduser()).resolve())).text()


def redact(text: str) -> str:
    """A text without passwords and signatures of the URLs in it."""
    text = re.sub(r"://[^/\s]*@", "://***@", text)
    return re.sub(r"(://[^\s?'\"]+)\?[^\s'\")]*?(?=@sha256:|[\s'\")]|$)", r"\1?***", text)
