"""The network of a release, closed: who gets in, what gets out, and that probes and DNS go on."""

import re

import pytest

from chart.rendering import tool
from e2e.clients import client, said
from e2e.cluster import CI_VALUES, call, eventually

CLOSED = ("networkPolicy.egress.closed=true", "workers.processes=2")

COMPUTE = """
import socket
from distributed import Client
print("address", socket.gethostbyname("study-scheduler"))
try:
    with Client("tcp://study-scheduler:8786", timeout={seconds}) as client:
        print("computed", client.submit(sum, range(10)).result(timeout=60))
except OSError as error:
    print("refused")
"""

# From inside a pod of the release; the cluster's API is what every cluster has outside it.
REACH = """
import socket
for host, port in (("study-scheduler", 8786), ("kubernetes.default.svc", 443)):
    try:
        socket.create_connection((host, port), timeout=5).close()
        print(host, "open")
    except socket.gaierror:
        print(host, "unknown")
    except OSError:
        print(host, "closed")
"""


@pytest.fixture
def closed(release):
    with release("study", CI_VALUES, sets=CLOSED) as installed:
        yield installed


def reached(release, component):
    found = release.kubectl("exec", f"deploy/study-{component}", "--", "python", "-c", REACH)
    return dict(line.split() for line in found.splitlines())


@pytest.mark.ci
def test_who_gets_in_and_what_gets_out(closed):
    """One release for all: installing it has shown already that probes get through and workers register."""
    notes = call(tool("helm"), "get", "notes", "study", "--namespace", closed.namespace)
    (label,) = re.findall(r'^  (modelops\.io/client\S+): "true"$', notes, re.MULTILINE)
    with (
        client(closed, "notebook", COMPUTE.format(seconds=120), {label: "true"}),
        client(closed, "stranger", COMPUTE.format(seconds=15), {"app": "notebook"}),
    ):
        assert re.fullmatch(r"address \S+\ncomputed 45\n", said(closed, "notebook"))
        assert re.fullmatch(r"address \S+\nrefused\n", said(closed, "stranger")), (
            "DNS works, the rest does not"
        )

    assert reached(closed, "worker") == {"study-scheduler": "open", "kubernetes.default.svc": "closed"}
    assert reached(closed, "scheduler")["kubernetes.default.svc"] == "closed"
    closed.upgrade(CI_VALUES, sets=("workers.processes=2",))
    eventually(lambda: reached(closed, "worker")["kubernetes.default.svc"] == "open", "open egress")
