"""tools/scan.py: what it accepts and, with the real scanners, that an unsafe pod is found."""

import importlib.util
import re

import pytest
import yaml

from chart.rendering import ROOT

SPEC = importlib.util.spec_from_file_location("scan", ROOT / "tools" / "scan.py")
scan = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scan)

ACCEPTED = yaml.safe_load(scan.ACCEPTED.read_text())
UNSAFE = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "unsafe", "namespace": "models"},
    "spec": {
        "selector": {"matchLabels": {"app": "unsafe"}},
        "template": {
            "metadata": {"labels": {"app": "unsafe"}},
            "spec": {
                "containers": [
                    {"name": "one", "image": "one:latest", "securityContext": {"privileged": True}}
                ],
            },
        },
    },
}


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row["check"])
def test_every_acceptance_has_a_reason(row):
    assert set(row) == {"check", "objects", "reason"}
    assert re.match(r"(Checkov CKV\w+|kube-score [a-z-]+): .", row["check"])
    assert len(row["reason"]) >= len("The same.")


def test_an_acceptance_covers_its_objects_only():
    accepted = scan.Acceptance("Checkov CKV_K8S_8: Liveness", ("Deployment/*-worker",), "a reason")
    worker = scan.Finding("Checkov CKV_K8S_8: Liveness", "Deployment/study-worker", "a.yaml")
    scheduler = scan.Finding("Checkov CKV_K8S_8: Liveness", "Deployment/study-scheduler", "a.yaml")
    other = scan.Finding("Checkov CKV_K8S_9: Readiness", "Deployment/study-worker", "a.yaml")
    assert scan.drop_accepted([other, scheduler, worker], [accepted]) == [scheduler, other]


@pytest.mark.skipif(not scan.CHECKOV.exists(), reason="make scan installs the scanners")
def test_the_scanners_find_an_unsafe_pod(tmp_path):
    (tmp_path / "unsafe.yaml").write_text(yaml.safe_dump(UNSAFE))
    by_checkov = {finding.check.split()[1] for finding in scan.checkov(tmp_path)}
    assert {
        "CKV_K8S_16:",
        "CKV_K8S_20:",
        "CKV_K8S_22:",
    } <= by_checkov  # privileged, escalation, writable root
    by_kube_score = scan.kube_score(tmp_path)
    assert {finding.object for finding in by_kube_score} == {"Deployment/unsafe"}
    assert any("security-context" in finding.check for finding in by_kube_score)
