"""TLS on a cluster, with a secret made by openssl: Dask computes, and who lacks a certificate does not."""

import pytest

from chart import certificates
from e2e.clients import client, said
from e2e.cluster import CI_VALUES, kubectl

# A notebook's configuration is the variables that NOTES names.
CONNECT = """
import dask
from distributed import Client

FILES = {"CA_FILE": "ca.crt", "CLIENT__CERT": "tls.crt", "CLIENT__KEY": "tls.key"}

def compute(scheme, secret, seconds):
    files = FILES if secret else {}
    env = {f"DASK_DISTRIBUTED__COMM__TLS__{key}": f"/secrets/{secret}/{file}" for key, file in files.items()}
    dask.config.refresh(env=env)
    try:
        with Client(f"{scheme}://study-scheduler:8786", timeout=seconds) as client:
            return client.submit(sum, range(10)).result(timeout=60)
    except OSError:
        return "refused"

print(compute("tls", "own", 120), compute("tcp", None, 15), compute("tls", "foreign", 15))
"""


@pytest.fixture
def secrets(namespace, tmp_path):
    """`own`, which the release gets, and `foreign`, of another CA."""
    names = ["own", "foreign"]
    for name in names:
        folder = certificates.make(tmp_path / name)
        files = [f"--from-file={folder / file}" for file in certificates.FILES]
        kubectl("--namespace", namespace, "create", "secret", "generic", name, *files)
    yield names
    kubectl("--namespace", namespace, "delete", "secret", *names)


def test_only_a_certificate_of_the_releases_ca_gets_in(release, secrets):
    tls = ("tls.enabled=true", "tls.existingSecret=own", "workers.processes=2")
    with release("study", CI_VALUES, sets=tls, helm="helm3") as installed:
        log = installed.kubectl("logs", "deploy/study-scheduler")
        assert "tls://" in log
        assert "tcp://" not in log
        label = {"modelops.io/client-study": "true"}
        with client(installed, "notebook", CONNECT, label, secrets):
            assert said(installed, "notebook").strip() == "45 refused refused"
