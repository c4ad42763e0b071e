"""What people write for a bundle, and what it means."""

import pickle
from pathlib import Path

import pytest

from modelops_dask.bundle import FetchFailed
from modelops_dask.bundle.reference import Reference, anchor, parse, redact
from modelops_dask.errors import BadInput

SECRET = "hunter2"
D = "sha256:" + "0123456789abcdef" * 4
MEANINGS = {
    "models/sir": Reference("path", "models/sir"),
    "../sir": Reference("path", "../sir"),
    ".": Reference("path", "."),
    "~/sir.tar.gz": Reference("path", "~/sir.tar.gz"),
    "models.v1/sir": Reference("path", "models.v1/sir"),
    "models/sir:v1": Reference("path", "models/sir:v1"),
    "../models/sir:v1": Reference("path", "../models/sir:v1"),
    f"./sir.zip@{D}": Reference("path", "./sir.zip", D),
    "file:///models/sir.zip": Reference("path", "/models/sir.zip"),
    "https://example.org/sir.tar.gz": Reference("url", "https://example.org/sir.tar.gz"),
    f"s3://bucket/sir.zip@{D}": Reference("url", "s3://bucket/sir.zip", D),
    "https://example.org/a@b.zip": Reference("url", "https://example.org/a@b.zip"),
    "ghcr.io/org/sir:v1": Reference("artifact", "ghcr.io/org/sir:v1"),
    "localhost/sir:v1": Reference("artifact", "localhost/sir:v1"),
    "registry:5000/sir:v1": Reference("artifact", "registry:5000/sir:v1"),
    "oci://ghcr.io/org/sir:v1": Reference("artifact", "ghcr.io/org/sir:v1"),
    f"ghcr.io/org/sir@{D}": Reference("artifact", "ghcr.io/org/sir", D),
    f"ghcr.io/org/sir:v1@{D}": Reference("artifact", "ghcr.io/org/sir", D),
    D: Reference("digest", "", D),
    f"my-models@{D}": Reference("digest", "my-models", D),
    f"org/my-models@{D}": Reference("digest", "org/my-models", D),
}


@pytest.mark.parametrize(("text", "meaning"), MEANINGS.items(), ids=MEANINGS.keys())
def test_meanings(text, meaning):
    assert parse(text) == meaning
    assert parse(meaning.text()) == meaning


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("oci://ghcr.io/org/sir", "add a tag or digest: ghcr.io/org/sir:TAG or ghcr.io/org/sir@sha256"),
        ("oci://sir:v1", "write oci://HOST/REPOSITORY:TAG"),
        ("oci://ghcr.io/Org/Sir:v1", "in lower case"),
        ("https://me:hunter2@example.org/sir.zip", "a password in a URL ends up in logs"),
    ],
)
def test_what_means_nothing_is_bad_input(text, said):
    with pytest.raises(BadInput, match=said) as refused:
        parse(text)
    assert "hunter2" not in str(refused.value)


def test_paths_are_made_absolute_and_nothing_else_is():
    assert anchor("../sir", Path("/studies/a")) == "/studies/sir"
    assert anchor(f"./sir.zip@{D}", Path("/studies")) == f"/studies/sir.zip@{D}"
    assert anchor("~/sir", Path("/studies")) == str(Path.home() / "sir")
    for text in ("https://example.org/sir.zip", "ghcr.io/org/sir:v1", D):
        assert anchor(text, Path("/studies")) == text


def test_an_error_holds_no_secrets_and_can_travel():
    url = "https://me:p@ss@example.org/sir.zip?sig=hunter2&x=1"
    failed = pickle.loads(pickle.dumps(FetchFailed(url, f"GET {url} failed")))
    assert "p@ss" not in str(failed)
    assert "ss@" not in redact(url)
    assert "hunter2" not in str(failed)
    assert "example.org/sir.zip" in str(failed)
    assert (
        str(parse(f"https://example.org/sir.zip?sig=a@{SECRET}@{D}"))
        == f"https://example.org/sir.zip?***@{D}"
    )
