"""Who reaches whom under the rendered NetworkPolicies, judged as Kubernetes judges them.

A connection must be let out by the policies that choose the caller and let in by those that choose the
callee; a pod that no policy chooses is open. Reads podSelector, namespaceSelector, ipBlock and ports, as
far as the chart uses them. tests/e2e asks a real cluster.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import pytest

from chart.rendering import HELMS, Object, notes, one, pods, refusal, render, stated

both_helms = pytest.mark.parametrize("helm", HELMS)
RELEASE = {"app.kubernetes.io/name": "modelops-dask", "app.kubernetes.io/instance": "study"}


@dataclass(frozen=True)
class Party:
    """A pod, by its labels and those of its namespace; or, with an address, something outside the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "models"
    address: str = ""


DRIVER = Party(RELEASE | {"app.kubernetes.io/component": "driver"})
CLIENT = Party({"modelops.io/client-study": "true"})
STRANGER = Party({"app": "dask-worker"})
OTHER_RELEASE = Party(
    RELEASE | {"app.kubernetes.io/instance": "flu", "app.kubernetes.io/component": "worker"}
)
NOTEBOOK = Party({"app": "notebook"}, namespace="notebooks")
DNS = Party({"k8s-app": "kube-dns"}, namespace="kube-system")
INDEX, ELSEWHERE, API = (Party(address=text) for text in ("203.0.113.7", "203.0.114.7", "192.0.2.10"))

CLOSED = {
    "clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "notebooks"}}}],
    "egress": {
        "closed": True,
        "packageIndex": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443}]}],
        "store": [{"to": [{"podSelector": {"matchLabels": {"app": "store"}}}], "ports": [{"port": 9000}]}],
        "apiServer": [{"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}], "ports": [{"port": 6443}]}],
    },
}
STORE = Party({"app": "store"})


def chosen(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: dict[str, Any], party: Party) -> bool:
    if "ipBlock" in peer:
        return bool(party.address) and ipaddress.ip_address(party.address) in ipaddress.ip_network(
            peer["ipBlock"]["cidr"]
        )
    if party.address:
        return False
    if "namespaceSelector" in peer:
        if not chosen(peer["namespaceSelector"], {"kubernetes.io/metadata.name": party.namespace}):
            return False
    elif party.namespace != "models":
        return False
    return chosen(peer.get("podSelector", {}), party.labels)


def lets(rules: list[Object], side: str, party: Party, port: int, protocol: str) -> bool:
    for rule in rules:
        ports = [(row["port"], row.get("protocol", "TCP")) for row in rule.get("ports", [])]
        if ports and (port, protocol) not in ports:
            continue
        if side not in rule or any(is_peer(peer, party) for peer in rule[side]):
            return True
    return False


def reaches(
    objects: list[Object], caller: Party, callee: Party, port: int = 8786, protocol: str = "TCP"
) -> bool:
    """Whether a connection from one party to a port of another comes about."""

    def allowed(direction: str, side: str, pod: Party, peer: Party) -> bool:
        policies = [
            item["spec"]
            for item in objects
            if item["kind"] == "NetworkPolicy"
            and direction.title() in item["spec"]["policyTypes"]
            and not pod.address
            and pod.namespace == "models"
            and chosen(item["spec"]["podSelector"], pod.labels)
        ]
        rules = [rule for policy in policies for rule in policy.get(direction, [])]
        return not policies or lets(rules, side, peer, port, protocol)

    return allowed("egress", "to", caller, callee) and allowed("ingress", "from", callee, caller)


def parties(objects: list[Object]) -> tuple[Party, Party]:
    """The scheduler and a worker, with the labels that their pods really get."""
    labels = {item["metadata"]["name"]: pod["metadata"]["labels"] for item, pod in pods(objects)}
    return Party(labels["study-scheduler"]), Party(labels["study-worker"])


@both_helms
def test_the_scheduler_answers_its_own_and_labelled_clients_alone(helm):
    objects = render(helm)
    scheduler, worker = parties(objects)
    for port in (8786, 8787):
        for caller in (worker, DRIVER, CLIENT):
            assert reaches(objects, caller, scheduler, port), caller
        for caller in (STRANGER, OTHER_RELEASE, NOTEBOOK, ELSEWHERE, Party(CLIENT.labels, "notebooks")):
            assert not reaches(objects, caller, scheduler, port), caller
    assert not reaches(objects, CLIENT, scheduler, 22)


@both_helms
def test_workers_answer_each_other_and_the_scheduler_on_any_port(helm):
    objects = render(helm)
    scheduler, worker = parties(objects)
    for caller in (scheduler, worker):
        assert reaches(objects, caller, worker, 40123)
    for caller in (DRIVER, CLIENT, STRANGER, OTHER_RELEASE, NOTEBOOK):
        assert not reaches(objects, caller, worker, 40123), caller
        assert not reaches(objects, caller, DRIVER, 8786), caller


def test_pools_are_one_release(tmp_path):
    objects = render("helm", *stated({"pools": {"large": {"replicas": 1}}}, tmp_path / "mine.yaml"))
    labels = {item["metadata"]["name"]: pod["metadata"]["labels"] for item, pod in pods(objects)}
    default, large = Party(labels["study-worker"]), Party(labels["study-worker-large"])
    assert reaches(objects, default, large, 40123)
    assert reaches(objects, large, default, 40123)
    assert reaches(objects, large, Party(labels["study-scheduler"]))


def test_egress_is_open_by_default():
    objects = render("helm")
    scheduler, worker = parties(objects)
    for caller in (scheduler, worker, DRIVER):
        assert reaches(objects, caller, ELSEWHERE, 443)


@both_helms
def test_closed_egress_lets_out_what_is_listed_to_those_who_need_it(helm, tmp_path):
    objects = render(helm, *stated({"networkPolicy": CLOSED}, tmp_path / "mine.yaml"))
    scheduler, worker = parties(objects)
    for caller in (scheduler, worker, DRIVER):
        assert reaches(objects, caller, DNS, 53, "UDP"), "DNS always works"
        assert reaches(objects, caller, DNS, 53, "TCP")
        assert not reaches(objects, caller, ELSEWHERE, 443)
    reached = {
        "scheduler": [reaches(objects, scheduler, *to) for to in ((INDEX, 443), (STORE, 9000), (API, 6443))],
        "worker": [reaches(objects, worker, *to) for to in ((INDEX, 443), (STORE, 9000), (API, 6443))],
        "driver": [reaches(objects, DRIVER, *to) for to in ((INDEX, 443), (STORE, 9000), (API, 6443))],
    }
    assert reached == {
        "scheduler": [False, False, False],
        "worker": [True, True, False],
        "driver": [True, True, True],
    }
    assert not reaches(objects, worker, INDEX, 80)
    for caller, callee in ((worker, scheduler), (DRIVER, scheduler), (NOTEBOOK, scheduler)):
        assert reaches(objects, caller, callee)
    assert reaches(objects, scheduler, worker, 40123)
    assert reaches(objects, worker, worker, 40123)


def test_it_can_be_turned_off():
    off = render("helm", "--set", "networkPolicy.enabled=false")
    assert not [item for item in off if item["kind"] == "NetworkPolicy"]


@both_helms
def test_a_misspelt_rule_is_refused_for_it_would_allow_everything(helm, tmp_path):
    for rule in ({}, {"too": []}, {"to": [{}]}, {"to": [{"ipblock": {"cidr": "192.0.2.0/24"}}]}):
        mine = {"networkPolicy": {"egress": {"closed": True, "store": [rule]}}}
        said = refusal(helm, *stated(mine, tmp_path / "mine.yaml"))
        assert "/networkPolicy/egress/store/0" in said, said


def test_two_releases_give_different_labels_to_their_clients():
    objects = render("helm", "--set", "fullnameOverride=flu")
    (rule,) = one(objects, "NetworkPolicy", "flu-scheduler")["spec"]["ingress"]
    assert {"podSelector": {"matchLabels": {"modelops.io/client-flu": "true"}}} in rule["from"]


def test_a_long_name_still_makes_a_label():
    name = "a" * 53
    objects = render("helm", "--set", f"fullnameOverride={name}")
    (rule,) = one(objects, "NetworkPolicy", f"{name}-scheduler")["spec"]["ingress"]
    (key,) = rule["from"][2]["podSelector"]["matchLabels"]
    assert len(key.rpartition("/")[2]) <= 63


def test_notes_print_the_label_and_what_is_open(tmp_path):
    assert 'modelops.io/client-study: "true"' in notes()
    closed = notes(*stated({"networkPolicy": CLOSED}, tmp_path / "mine.yaml"))
    assert "1 more of networkPolicy.clients" in closed
    assert "lists as packageIndex, store, apiServer; nothing else." in closed
    assert "cannot reach a package index" not in closed
    assert "but the pods cannot reach a package index" in notes("--set", "networkPolicy.egress.closed=true")
    image = notes("--set", "networkPolicy.egress.closed=true,executor.environment=image")
    assert "cannot reach a package index" not in image
    assert "networkPolicy is off" in notes("--set", "networkPolicy.enabled=false")
