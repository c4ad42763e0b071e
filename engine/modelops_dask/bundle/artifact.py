"""Get an artifact from an OCI registry with the library oras.

    HOST/REPOSITORY:TAG | @sha256:… -> manifest -> layers, each checked against its digest -> Unpacking

A layer is a file whose path is its title (as `modelops-bundle push` and `oras push FILE…` write them), or an
archive of many files: a folder that oras packed, or a single layer that is named like an archive. The digest
of the reference is that of the manifest, byte for byte.

Credentials are those of `docker login`: config.json in DOCKER_CONFIG or ~/.docker. Registries on this machine
are contacted without TLS, all others with it.
"""

import hashlib
import inspect
import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import oras.provider
import requests
from requests.adapters import HTTPAdapter

from modelops_dask.bundle.failed import FetchFailed
from modelops_dask.bundle.reference import Reference
from modelops_dask.bundle.unpack import CHUNK_BYTES, MAX_BYTES, Unpacking, UnpackRefused, unpack_archive

logging.getLogger("oras.logger").setLevel(logging.CRITICAL + 1)  # its messages are part of our errors

TIMEOUT_SECONDS = (10, 60)  # seconds to connect; seconds without data
# the limit that registries must accept according to the distribution specification
MANIFEST_BYTES = 4 * 1024**2
ACCEPTED = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
INDEX_OF_MODELOPS = "application/vnd.modelops.bundle.index.v1+json"
TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"  # "true" on a folder that oras packed
_ARCHIVE_TYPE = re.compile(r".*\btar\+(?:gzip|zstd)")
_ARCHIVE_NAME = re.compile(r".*\.(?:zip|tgz|tar|tar\.gz|tar\.zst)")


def pin(reference: Reference) -> Reference:
    """Replace the tag of an artifact by its current digest. Raises FetchFailed."""
    raw = _Artifact(reference).manifest()
    repository = reference.location.rpartition(":")[0]
    return replace(reference, location=repository, digest=f"sha256:{hashlib.sha256(raw).hexdigest()}")


def pull(reference: Reference, scratch: Path, into: Unpacking) -> None:
    """Write the files of an artifact. Raises FetchFailed, UnpackRefused, OSError."""
    artifact = _Artifact(reference)
    raw = artifact.manifest()
    if reference.digest != f"sha256:{hashlib.sha256(raw).hexdigest()}":
        raise FetchFailed(str(reference), "the registry's manifest has another digest")
    try:
        manifest = json.loads(raw)
        layers, config = manifest.get("layers") or [], manifest.get("config") or {}
        titles = [(layer.get("annotations") or {}).get(TITLE, "") for layer in layers]
        total = sum(int(layer["size"]) for layer in layers)
        if not layers:
            raise UnpackRefused(
                "the artifact has no files"
                if "manifests" not in manifest
                else "this is an index, not a single artifact"
            )
        if total > MAX_BYTES:
            raise UnpackRefused(f"more than {MAX_BYTES:,} bytes")
        if config.get("mediaType") == INDEX_OF_MODELOPS:
            artifact.blob(config, scratch / "index")
            elsewhere = set(json.loads((scratch / "index").read_bytes())["files"]) - set(titles)
            if elsewhere:
                names = ", ".join(sorted(elsewhere)[:5])
                raise UnpackRefused(
                    f"not all files are in the registry ({names}); push them without blob storage"
                )
        for number, (layer, title) in enumerate(zip(layers, titles, strict=True)):
            blob = scratch / f"layer-{number}"
            artifact.blob(layer, blob)
            if _is_archive(layer, title, alone=len(layers) == 1):
                unpack_archive(blob, into, scratch)
            else:
                with blob.open("rb") as stream:
                    into.file(title, stream)
            blob.unlink()
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UnpackRefused(f"the manifest cannot be read: {type(error).__name__} {error}") from None


def _is_archive(layer: dict[str, Any], title: str, *, alone: bool) -> bool:
    """Whether a layer holds many files. oras-py marks every file as tar, so the type alone is not enough."""
    packed = (layer.get("annotations") or {}).get(UNPACK) == "true"
    typed = _ARCHIVE_TYPE.fullmatch(layer.get("mediaType", ""))
    return bool(packed or typed or not title or (alone and _ARCHIVE_NAME.fullmatch(title)))


class _Registry(oras.provider.Registry):
    # oras' own retries are not used: they take minutes, even if trying again cannot help.
    do_request = inspect.unwrap(oras.provider.Registry.do_request)


class _Adapter(HTTPAdapter):
    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        return super().send(request, stream, TIMEOUT_SECONDS, verify, cert, proxies)


class _Artifact:
    """An artifact in its registry; requests use the credentials for it."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._host = reference.location.partition("/")[0]
        self._plain = self._host.partition(":")[0] in ("localhost", "127.0.0.1")
        self._client = self._connect("token")
        self._container = self._client.get_container(
            "@".join(filter(None, (reference.location, reference.digest)))
        )
        challenge = self._request(f"{self._host}/v2/", anonymous=True).headers.get("WWW-Authenticate", "")
        if challenge.lower().startswith("basic"):  # oras does not check this
            self._client = self._connect("basic")
        folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        configs = [str(folder / "config.json")] if (folder / "config.json").is_file() else []
        try:
            self._client.auth.load_configs(self._container, configs=configs)
        except (ValueError, KeyError, AttributeError):
            raise self._failed("config.json of `docker login` cannot be read") from None

    def manifest(self) -> bytes:
        """Return the manifest from the registry. Raises FetchFailed."""
        raw = b""
        with self._request(self._container.manifest_url()) as response:
            for chunk in response.iter_content(CHUNK_BYTES):
                raw += chunk
                if len(raw) > MANIFEST_BYTES:
                    raise self._failed(f"a manifest of more than {MANIFEST_BYTES:,} bytes")
        return raw

    def blob(self, described: dict[str, Any], to: Path) -> None:
        """Download and check a blob that a manifest describes. Raises FetchFailed, KeyError."""
        digest, left = str(described["digest"]), int(described["size"])
        if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
            raise self._failed(f"a layer has the digest {digest!r}; only sha256 is supported")
        checksum = hashlib.sha256()
        with self._request(self._container.get_blob_url(digest)) as response, to.open("wb") as stream:
            for chunk in response.iter_content(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    break
                checksum.update(chunk)
                stream.write(chunk)
        if left or f"sha256:{checksum.hexdigest()}" != digest:
            raise self._failed(f"the registry sent other bytes than layer {digest}")

    def _connect(self, kind: str) -> _Registry:
        client = _Registry(insecure=self._plain, auth_backend=kind)
        for scheme in ("http://", "https://"):
            client.session.mount(scheme, _Adapter(max_retries=2))
        return client

    def _request(self, url: str, *, anonymous: bool = False) -> requests.Response:
        url = f"{self._client.prefix}://{url}"
        try:
            if anonymous:
                return self._client.session.get(url)
            response = self._client.do_request(url, headers={"Accept": ACCEPTED}, stream=True)
            status = response.status_code
        except requests.RequestException as error:
            # The message may contain a signed URL; the type is enough.
            raise self._failed(f"{self._host} does not answer: {type(error).__name__}") from None
        except (ValueError, AttributeError):  # oras has no credentials for this host
            status = 401
        if status in (401, 403):
            raise self._failed(
                f"{self._host} refused access (status {status}); run `docker login {self._host}`, or set "
                "DOCKER_CONFIG "
                "to the folder of a config.json with credentials for it"
            )
        if status == 404:
            raise self._failed(f"{self._host} has no such artifact")
        if status != 200:
            raise self._failed(f"{self._host} answers with status {status}")
        return response

    def _failed(self, problem: str) -> FetchFailed:
        return FetchFailed(str(self._reference), problem)
