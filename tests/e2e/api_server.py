"""Take the API server away for a while: its process is stopped, as if its machine did not answer.

For a cluster whose API server is a process of this machine, one that may be signalled. Elsewhere the test is
skipped, and says why.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest


@contextmanager
def api_server_away() -> Iterator[None]:
    """Connections stay open and nothing is answered, for as long as the `with` lasts."""
    found = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "kube-apiserver"]
    if len(found) != 1:
        pytest.skip(f"the API server is no process of this machine: {len(found)} are called kube-apiserver")
    (server,) = found
    try:
        server.suspend()
    except psutil.AccessDenied:
        pytest.skip("the process of the API server belongs to another user")
    try:
        if _answers():
            pytest.skip("the API server that was stopped on this machine is not that of KUBECONFIG")
        yield
    finally:
        server.resume()


def _answers() -> bool:
    asked = ["kubectl", "get", "--raw", "/readyz", "--request-timeout", "3s"]
    return subprocess.run(asked, capture_output=True, timeout=60, check=False).returncode == 0
