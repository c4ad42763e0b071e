"""Fixtures of the tests on a cluster: a namespace of their own and releases of the chart in it.

The cluster is that of KUBECONFIG, which must be set: no test finds one by itself and installs there. The
namespace enforces Pod Security `restricted`, so every test is also one of that. The nodes must have IMAGE:

    make image && kind load docker-image localhost/modelops-dask:dev && make e2e
"""

import json
import os
import secrets
from functools import partial

import pytest

from chart.rendering import HELMS
from e2e.cluster import install, kubectl
from e2e.s3 import Bucket, serve


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("KUBECONFIG"):
        skip = pytest.mark.skip(reason="KUBECONFIG is not set: no cluster to install on")
        for item in items:
            if "e2e" in item.path.parts:
                item.add_marker(skip)


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest) -> str:
    """Both majors, one after the other: `helm` is 4, `helm3` is 3."""
    return request.param


@pytest.fixture(scope="session")
def namespace():
    """A new namespace that enforces Pod Security `restricted`; gone at the end with all that is in it."""
    name = f"modelops-e2e-{secrets.token_hex(3)}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
    yield name
    kubectl("delete", "namespace", name)


@pytest.fixture(scope="session")
def s3(namespace: str, tmp_path_factory) -> Bucket:
    """A bucket of an S3 server in the namespace; its secret must be among a release's envFromSecrets."""
    return serve(namespace, tmp_path_factory.mktemp("s3"))


@pytest.fixture
def release(namespace: str):
    """release(NAME, *values_files, helm=, sets=, chart=, wait=): a context manager that gives a Release."""
    return partial(_install, namespace)


def _install(namespace, name, *values, **options):
    return install(name, namespace, *values, **options)
