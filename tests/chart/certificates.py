"""Certificates for tests, by openssl."""

import subprocess
from pathlib import Path

FILES = ("ca.crt", "tls.crt", "tls.key")


def make(folder: Path) -> Path:
    """A new folder with FILES: a CA of its own and a certificate that it signed."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj")
    folder.mkdir()
    _openssl(folder, "req", "-x509", *curve, "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    _openssl(folder, "req", *curve, "/CN=study", "-keyout", "tls.key", "-out", "tls.csr")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tls.crt")
    _openssl(folder, "x509", "-req", "-in", "tls.csr", *signed)
    return folder


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)
