"""An S3 server in the cluster: an object store that pods reach by its Service and this machine by a tunnel.

    moto's packages, for the Python and the processor of IMAGE -> a pod, as a tar -> Service `s3`, a bucket
    Secret `s3`: the variables by which pods reach it; Bucket.reached(): those for this machine

So the nodes need no further image. uv gets the packages, from its cache or the index that this environment
was installed from.
"""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from chart.rendering import ROOT
from e2e.clients import restricted
from e2e.cluster import call, kubectl

PORT = 5000
FOLDER = "/tmp/s3"
PACKAGES = ["moto[s3]", "flask", "flask-cors"]  # as in pyproject.toml
WHICH = "import platform; print(platform.machine(), *platform.python_version_tuple()[:2])"
UNPACK = f"import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('{FOLDER}')"
SERVE = f"until [ -e {FOLDER}/moto/all ]; do sleep 0.2; done; exec python -m moto.server -H 0.0.0.0 -p {PORT}"
CREATE = f"""
import boto3
server = {{"endpoint_url": "http://127.0.0.1:{PORT}", "region_name": "us-east-1"}}
s3 = boto3.client("s3", **server, aws_access_key_id="x", aws_secret_access_key="x")
s3.create_bucket(Bucket="studies")
"""


@dataclass(frozen=True)
class Bucket:
    """A bucket in a namespace; the secret has the variables for pods."""

    namespace: str
    url: str = "s3://studies"
    secret: str = "s3"

    @contextmanager
    def reached(self) -> Iterator[dict[str, str]]:
        """The variables by which this machine reaches it, for as long as the `with` lasts."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", "pod/s3", f":{PORT}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tunnel:
            try:
                said = tunnel.stdout.readline()
                assert said.startswith("Forwarding from 127.0.0.1:"), said
                yield _variables(f"http://{said.split()[2]}")
            finally:
                tunnel.terminate()


def serve(namespace: str, folder: Path) -> Bucket:
    """Start the server; it goes with its namespace."""
    labels = {"app": "s3"}
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 300}
    env = [{"name": "PYTHONPATH", "value": FOLDER}]
    pod = restricted("s3", ["sh", "-c", SERVE], labels, env=env, readinessProbe=probe)
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"}}
    service["spec"] = {"selector": labels, "ports": [{"port": PORT}]}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": Bucket.secret}}
    secret["stringData"] = _variables(f"http://s3:{PORT}")
    both = {"apiVersion": "v1", "kind": "List", "items": [pod, service, secret]}
    inside = ("--namespace", namespace)
    kubectl(*inside, "apply", "--filename", "-", stdin=json.dumps(both))
    kubectl(*inside, "wait", "pod/s3", "--for=jsonpath={.status.phase}=Running", "--timeout=300s")
    processor, *python = kubectl(*inside, "exec", "s3", "--", "python", "-c", WHICH).split()
    packages = _packages(folder, f"{processor}-unknown-linux-gnu", ".".join(python))
    unpack = ["kubectl", *inside, "exec", "--stdin", "s3", "--", "python", "-c", UNPACK]
    with packages.open("rb") as file:
        subprocess.run(unpack, stdin=file, check=True, timeout=300)
    kubectl(*inside, "wait", "pod/s3", "--for=condition=Ready", "--timeout=300s")
    kubectl(*inside, "exec", "s3", "--", "python", "-c", CREATE)
    return Bucket(namespace)


def _packages(folder: Path, platform: str, python: str) -> Path:
    """A tar of the server and what it needs; moto/all is its last file."""
    into = ["--target", folder / "s3", "--python-platform", platform, "--python-version", python]
    pinned = ["--constraint", ROOT / "requirements-dev.lock", "--no-build"]
    call(find_uv_bin(), "pip", "install", "--quiet", *into, *pinned, *PACKAGES)
    (folder / "all").touch()
    path = folder / "s3.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "s3", ".")
        tar.add(folder / "all", "moto/all")
    return path


def _variables(address: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see"}
    return {**keys, "AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1"}
