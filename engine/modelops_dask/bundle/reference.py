"""Parse references to bundles.

    models/sir                               path: a folder, or an archive, on this machine
    https://HOST/sir.tar.gz, s3://B/sir.zip  url: an archive behind any fsspec URL
    HOST/REPOSITORY:TAG, oci://HOST/…        artifact: in an OCI registry
    sha256:DIGEST, NAME@sha256:DIGEST        digest: a tree in the cache

The first three may end in @sha256:DIGEST, which pins them: for an artifact it is the digest of its manifest,
for the others that of the tree. Files and hosts are not accessed here: the other modules of this package do
that.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from modelops_dask.errors import BadInput

_DIGEST = r"sha256:[0-9a-f]{64}"
_PINNED = re.compile(rf"(?:(?P<where>.*)@)?(?P<digest>{_DIGEST})", re.DOTALL)
_PATH = re.compile(r"(?:[/~]|\.\.?(?:/|$))")  # prefixes of a text that can only be a path
# A host has a dot or a port, or is localhost: otherwise models/sir:v1 could be a folder.
_HOST = r"(?:localhost(?::\d+)?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?|[A-Za-z0-9-]+:\d+)"
_ARTIFACT = re.compile(
    rf"(?P<repository>{_HOST}(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+)(?::(?P<tag>\w[\w.-]{{0,127}}))?"
)


@dataclass(frozen=True)
class Reference:
    """`location` is a path, a URL, HOST/REPOSITORY[:TAG], or any name; `digest` is "" or sha256:…"""

    kind: Literal["path", "url", "artifact", "digest"]
    location: str
    digest: str = ""

    def __str__(self) -> str:
        """The reference as written, without secrets in a URL."""
        return redact("@".join(filter(None, (self.location, self.digest))))

    def text(self) -> str:
        """The reference as written: parse() returns an equal one."""
        location = f"oci://{self.location}" if self.kind == "artifact" else self.location
        return "@".join(filter(None, (location, self.digest)))


def parse(text: str) -> Reference:
    """Parse a reference. Raises BadInput if it is invalid."""
    pinned = _PINNED.fullmatch(text)
    location, digest = (pinned["where"] or "", pinned["digest"]) if pinned else (text, "")
    if location.startswith("oci://"):
        return _artifact(location.removeprefix("oci://"), digest)
    if location.startswith("file://"):
        return Reference("path", location.removeprefix("file://"), digest)
    if "://" in location:
        if re.search(r"://[^/]*@", location):
            raise BadInput(
                f"bundle {redact(text)}: a password in a URL ends up in logs; remove it "
                "(put it into ~/.netrc, environment variables or fsspec's configuration)"
            )
        return Reference("url", location, digest)
    if _PATH.match(location):
        return Reference("path", location, digest)
    artifact = _ARTIFACT.fullmatch(location)
    if artifact and (artifact["tag"] or digest):
        return _artifact(location, digest)
    if not location and not digest:
        raise BadInput("the bundle reference is empty")
    return Reference("digest" if digest else "path", location, digest)


def _artifact(location: str, digest: str) -> Reference:
    artifact = _ARTIFACT.fullmatch(location)
    if not artifact:
        raise BadInput(f"bundle oci://{redact(location)}: write oci://HOST/REPOSITORY:TAG, in lower case")
    if not (artifact["tag"] or digest):
        raise BadInput(f"bundle {location}: add a tag or digest: {location}:TAG or {location}@sha256:DIGEST")
    return Reference("artifact", artifact["repository"] if digest else location, digest)


def anchor(text: str, folder: Path) -> str:
    """Make the path of a reference absolute, relative to a folder. Raises BadInput."""
    reference = parse(text)
    if reference.kind != "path":
        return text
    return replace(reference, location=str((folder / Path(reference.location).expanduser()).resolve())).text()


def redact(text: str) -> str:
    """Remove passwords and signatures from the URLs in a text."""
    text = re.sub(r"://[^/\s]*@", "://***@", text)
    return re.sub(r"(://[^\s?'\"]+)\?[^\s'\")]*?(?=@sha256:|[\s'\")]|$)", r"\1?***", text)
