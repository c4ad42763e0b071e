"""TLS as rendered: addresses, files, Dask's configuration, and what cert-manager is asked for.

Dask itself reads the mounted configuration and makes connections with a certificate of openssl's; tests/e2e
does so in a cluster.
"""

import json
import subprocess
import sys

import pytest

from chart import certificates
from chart.rendering import HELMS, container, notes, one, pods, refusal, render, stated, text, title, workers

both_helms = pytest.mark.parametrize("helm", HELMS)
SECRET = ["--set", "tls.enabled=true,tls.existingSecret=study-dask"]
CERT_MANAGER = ["--set", "tls.enabled=true"]


def dask_config(objects):
    config = one(objects, "ConfigMap", "study-dask-config")
    return json.loads(config["data"]["modelops.json"])


def test_nothing_of_tls_is_rendered_while_it_is_off():
    rendered = text("helm")
    assert "tls" not in rendered
    assert "cert-manager" not in rendered


@both_helms
def test_every_pod_mounts_the_secret_that_dask_reads(helm):
    objects = render(helm, *SECRET)
    comm = dask_config(objects)["distributed"]["comm"]
    assert comm["require-encryption"] is True
    assert comm["default-scheme"] == "tls"
    read = {comm["tls"]["ca-file"]}
    for role in ("scheduler", "worker", "client"):
        read |= {comm["tls"][role]["cert"], comm["tls"][role]["key"]}
    assert "tls://study-scheduler:8786" in container(workers(objects))["command"]
    made = list(pods(objects))
    assert len(made) >= 2
    for item, template in made:
        (mount,) = [row for row in container(item)["volumeMounts"] if row["name"] == "tls"]
        assert mount["readOnly"] is True, title(item)
        (volume,) = [row for row in template["spec"]["volumes"] if row["name"] == "tls"]
        assert volume["secret"]["secretName"] == "study-dask", title(item)
        paths = {row["path"] for row in volume["secret"]["items"]}
        assert paths == set(certificates.FILES), title(item)
        assert read == {f"{mount['mountPath']}/{path}" for path in paths}, title(item)


def test_it_keeps_the_rest_of_the_configuration(tmp_path):
    mine = {"dask": {"config": {"distributed": {"comm": {"tls": {"min-version": 1.3}}}}}}
    objects = render("helm", *stated(mine, tmp_path / "mine.yaml"), *SECRET)
    comm = dask_config(objects)["distributed"]["comm"]
    assert comm["tls"]["min-version"] == 1.3
    assert comm["timeouts"] == {"connect": "30s", "tcp": "30s"}


def test_switching_it_on_replaces_every_pod():
    plain, secured = render("helm"), render("helm", *SECRET)
    for name in ("study-scheduler", "study-worker"):
        before, after = (
            one(objects, "Deployment", name)["spec"]["template"]["metadata"]["annotations"]
            for objects in (plain, secured)
        )
        assert before != after


@both_helms
def test_cert_manager_makes_a_ca_of_this_release_and_one_certificate(helm):
    objects = render(helm, *CERT_MANAGER)
    made = [item for item in objects if item["apiVersion"] == "cert-manager.io/v1"]
    assert sorted(title(item) for item in made) == [
        "Certificate/study-tls",
        "Certificate/study-tls-ca",
        "Issuer/study-tls",
        "Issuer/study-tls-self-signed",
    ]
    leaf, ca = (one(made, "Certificate", name)["spec"] for name in ("study-tls", "study-tls-ca"))
    issuer = one(made, "Issuer", leaf["issuerRef"]["name"])
    assert issuer["spec"]["ca"]["secretName"] == ca["secretName"]
    assert one(made, "Issuer", ca["issuerRef"]["name"])["spec"] == {"selfSigned": {}}
    assert ca["isCA"] is True
    assert "isCA" not in leaf
    assert set(leaf["usages"]) >= {"server auth", "client auth"}
    for item, template in pods(objects):
        (volume,) = [row for row in template["spec"]["volumes"] if row["name"] == "tls"]
        assert volume["secret"]["secretName"] == leaf["secretName"], title(item)


def test_a_secret_of_ones_own_needs_no_cert_manager():
    assert "cert-manager" not in text("helm", *SECRET)


def test_both_helms_render_the_same_bytes():
    assert text("helm", *CERT_MANAGER) == text("helm3", *CERT_MANAGER)


@both_helms
def test_a_duration_is_in_hours(helm):
    said = refusal(helm, "--set", "tls.enabled=true,tls.certificateDuration=90d")
    assert "'90d' does not match pattern" in said


def test_notes_say_what_a_client_needs():
    said = notes(*SECRET)
    assert "scheduler   tls://study-scheduler:8786" in said
    assert "-d tls://127.0.0.1:8786" in said
    assert "of the secret study-dask" in said
    assert "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY" in said
    assert "TLS:" not in notes()


CONNECT = """
import asyncio, sys
from distributed import Client, Scheduler

async def main(own, stranger):
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler:
        scheme, _, rest = scheduler.address.partition("://")
        async with Client(scheduler.address, asynchronous=True, timeout=10):
            print("own", scheme)
        for address, security in ((f"tcp://{rest}", None), (scheduler.address, stranger)):
            try:
                await Client(address, asynchronous=True, timeout=3, security=security)
                print("got in")
            except (OSError, RuntimeError) as error:
                print("refused")

def stranger(folder):
    from distributed.security import Security
    cert, key = f"{folder}/tls.crt", f"{folder}/tls.key"
    return Security(tls_ca_file=f"{folder}/ca.crt", tls_client_cert=cert, tls_client_key=key,
                    require_encryption=True)

asyncio.run(main(sys.argv[1], stranger(sys.argv[2])))
"""


def test_dask_connects_with_the_mounted_files_and_with_no_others(tmp_path):
    """The rendered configuration, its paths below a folder here, under a scheduler and three clients."""
    certificates.make(tmp_path / "own")
    certificates.make(tmp_path / "stranger")
    config = json.dumps(dask_config(render("helm", *SECRET)))
    (tmp_path / "dask").mkdir()
    mounted = config.replace("/etc/modelops/tls", str(tmp_path / "own"))
    (tmp_path / "dask" / "modelops.json").write_text(mounted)
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, tmp_path / "own", tmp_path / "stranger"],
        env={"DASK_CONFIG": str(tmp_path / "dask"), "HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.stdout.split("\n")[:3] == ["own tls", "refused", "refused"], done.stderr
