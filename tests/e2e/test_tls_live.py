"""TLS on a cluster, with a secret made by openssl: Dask computes, and who lacks a certificate does not.

Studies run under it too, by a driver and in chunks.
"""

import json

import pytest

from chart import certificates
from e2e.clients import client, said
from e2e.cluster import CI_VALUES, kubectl
from study_helpers import mops_helm, write_spec

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


def test_only_a_certificate_of_the_releases_ca_gets_in(release, secrets, s3, tmp_path):
    tls = ("tls.enabled=true,tls.existingSecret=own,workers.processes=2", "executor.environment=image")
    studies = (f"studies.store={s3.url}/tls,envFromSecrets={{{s3.secret}}}",)
    studies += ("studies.driver.resources.requests.cpu=50m",)
    with release("study", CI_VALUES, sets=[*tls, *studies], helm="helm3") as installed:
        log = installed.kubectl("logs", "deploy/study-scheduler")
        assert "tls://" in log
        assert "tcp://" not in log
        label = {"modelops.io/client-study": "true"}
        with client(installed, "notebook", CONNECT, label, secrets):
            assert said(installed, "notebook").strip() == "45 refused refused"

        spec, where = write_spec(tmp_path, n=4), ("-n", installed.namespace)
        for how in ((), ("--chunks", 2, "--store", f"{s3.url}/chunks")):
            words = ("submit", spec, "--release", "study", *where, *how, "--watch")
            done = mops_helm("study", *words, cwd=tmp_path, timeout_seconds=420)
            assert done.returncode == 0, done.stderr
            job = done.stdout.partition("  job      ")[2].split()[0]
            shown = mops_helm("study", "status", job, *where, "-o", "json", cwd=tmp_path)
            assert json.loads(shown.stdout)["summary"]["ok"] == 4
