"""Every object that the chart renders, whatever the preset: rules that hold for all, checked for all."""

import hashlib
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from chart.rendering import (
    CHART,
    EXAMPLES,
    HELMS,
    PRESETS,
    all_pods,
    container,
    env,
    flag,
    one,
    pods,
    render,
    stated,
    text,
    title,
    tool,
    workers,
)

# Values that use every key at once, pools and autoscaling among them.
EVERYTHING = Path(__file__).parent / "everything.yaml"
CASES = [*PRESETS, *EXAMPLES, EVERYTHING]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
both_helms = pytest.mark.parametrize("helm", HELMS)
IDENTITY = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


def scalars(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [found for value in node.values() for found in scalars(value)]
    if isinstance(node, list):
        return [found for value in node for found in scalars(value)]
    return [node]


@each_case
@both_helms
def test_lint(helm, case):
    command = [tool(helm), "lint", "--strict", CHART, "-f", case]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def kubernetes_schemas(tmp_path_factory) -> Path:
    """The JSON schemas of kubernetes-validate, references made relative for kubeconform."""
    package = Path(find_spec("kubernetes_validate").submodule_search_locations[0])
    wanted = ("serviceaccount-v1", "configmap-v1", "service-v1", "deployment-apps-v1")
    wanted += ("horizontalpodautoscaler-autoscaling-v2", "networkpolicy-networking-v1")
    wanted += ("persistentvolumeclaim-v1", "poddisruptionbudget-policy-v1", "pod-v1", "job-batch-v1")
    wanted += ("role-rbac-v1", "rolebinding-rbac-v1", "_definitions")
    folder = tmp_path_factory.mktemp("kubernetes")
    for version in ("1.25.0", "1.31.0", "1.34.0", "1.37.0"):
        (folder / f"v{version}").mkdir()
        for name in wanted:
            source = package / "kubernetes-json-schema" / f"v{version}-local-strict" / f"{name}.json"
            found = source.read_text().replace('"/api/_definitions.json', '"_definitions.json')
            (folder / f"v{version}" / f"{name}.json").write_text(found.replace('"$id":', '"x-id":'))
    return folder


@pytest.mark.parametrize("version", ["1.25.0", "1.31.0", "1.34.0", "1.37.0"])
@both_helms
def test_kubernetes_accepts_every_object(helm, version, kubernetes_schemas):
    location = f"{kubernetes_schemas}/{{{{.NormalizedKubernetesVersion}}}}"
    location += "/{{.ResourceKind}}{{.KindSuffix}}.json"
    command = [tool("kubeconform"), "-strict", "-kubernetes-version", version, "-schema-location", location]
    rendered = "\n---\n".join(text(helm, "-f", case) for case in CASES)
    done = subprocess.run(command, input=rendered, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubeconform_would_notice(kubernetes_schemas):
    location = f"{kubernetes_schemas}/v1.34.0/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [tool("kubeconform"), "-strict", "-schema-location", location]
    broken = text("helm").replace("enableServiceLinks", "enableServiceLink")
    done = subprocess.run(command, input=broken, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert "enableServiceLink" in done.stdout


@both_helms
def test_both_helms_make_the_same_objects_of_everything(helm):
    assert render(helm, "-f", EVERYTHING) == render("helm", "-f", EVERYTHING)


@each_case
def test_no_nulls_and_no_floating_integers(case):
    rendered = text("helm", "-f", case)
    assert not re.search(r"\de\+\d", rendered)
    for item in render("helm", "-f", case):
        assert None not in scalars(item), title(item)


@each_case
def test_labels(case):
    for item in render("helm", "-f", case):
        labels = item["metadata"]["labels"]
        assert set(labels) >= IDENTITY - {"app.kubernetes.io/component"}, title(item)
        assert labels["helm.sh/chart"].startswith("modelops-dask-"), title(item)
    for item, template in pods(render("helm", "-f", case)):
        labels = template["metadata"]["labels"]
        assert (labels.get("app") == "dask-worker") == (labels["app.kubernetes.io/component"] == "worker"), (
            title(item)
        )
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels), (
            "a new chart would restart pods"
        )


@each_case
def test_selectors_never_change_and_choose_their_own_pods_alone(case):
    found = list(pods(render("helm", "-f", case)))
    for item, _ in found:
        selector = item["spec"]["selector"]["matchLabels"]
        worker = selector["app.kubernetes.io/component"] == "worker"
        assert set(selector) == (IDENTITY | {"modelops.io/pool"} if worker else IDENTITY), title(item)
        for other, other_template in found:
            chosen = selector.items() <= other_template["metadata"]["labels"].items()
            assert chosen == (other is item), f"{title(item)} and {title(other)}"


@each_case
def test_the_service_finds_the_scheduler(case):
    objects = render("helm", "-f", case)
    (service,) = [item for item in objects if item["kind"] == "Service"]
    scheduler = one(objects, "Deployment", "study-scheduler")
    assert service["spec"]["selector"].items() <= scheduler["spec"]["template"]["metadata"]["labels"].items()
    named = {port["name"]: port["containerPort"] for port in container(scheduler)["ports"]}
    assert {port["port"]: named[port["targetPort"]] for port in service["spec"]["ports"]} == {
        8786: 8786,
        8787: 8787,
    }
    assert scheduler["spec"]["strategy"] == {"type": "Recreate"}
    for item, template in pods(objects):
        if template["metadata"]["labels"]["app.kubernetes.io/component"] == "worker":
            scheme = "tls" if case == EVERYTHING else "tcp"
            address = f"{scheme}://{service['metadata']['name']}:8786"
            assert flag(item, "worker") == address


@each_case
def test_pod_security_is_restricted(case):
    for item, template in all_pods(render("helm", "-f", case)):
        pod, worker = template["spec"], container(item)
        assert pod["securityContext"]["runAsNonRoot"] is True, title(item)
        assert pod["securityContext"]["runAsUser"] == 10001, title(item)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, title(item)
        assert worker["securityContext"]["allowPrivilegeEscalation"] is False, title(item)
        assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}, title(item)
        assert worker["securityContext"]["readOnlyRootFilesystem"] is True, title(item)
        assert pod["automountServiceAccountToken"] is (item["kind"] == "Job"), title(item)


@each_case
def test_a_read_only_root_leaves_a_sized_place_to_write(case):
    for item, template in all_pods(render("helm", "-f", case)):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert len(volumes) == len(template["spec"]["volumes"]), f"{title(item)}: a volume twice"
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container(item)["volumeMounts"]}
        assert mounts["/tmp"]["emptyDir"]["sizeLimit"], title(item)
        assert env(item)["HOME"] == "/tmp", title(item)
        for name, value in env(item).items():
            if name.endswith("_DIR"):
                assert value.startswith("/tmp/"), f"{title(item)}: {name}"


@each_case
def test_environment(case):
    for item, _ in all_pods(render("helm", "-f", case)):
        rows = container(item)["env"]
        names = [row["name"] for row in rows]
        assert len(names) == len(set(names)), f"{title(item)}: a variable twice, which Helm 4 refuses"
        assert all(isinstance(row["value"], str) for row in rows if "value" in row), title(item)


@each_case
def test_resources(case):
    for item, _ in all_pods(render("helm", "-f", case)):
        resources = container(item)["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"], title(item)
        assert resources["requests"]["cpu"], title(item)
        assert "cpu" not in resources["limits"] or case == EVERYTHING, (
            f"{title(item)}: nobody asked for a CPU limit"
        )


@each_case
def test_dask_configuration_is_mounted_everywhere_and_its_change_replaces_pods(case):
    objects = render("helm", "-f", case)
    config = one(objects, "ConfigMap", "study-dask-config")
    content = config["data"]["modelops.json"]
    for item, template in pods(objects):
        assert (
            template["metadata"]["annotations"]["checksum/dask-config"]
            == hashlib.sha256(content.encode()).hexdigest()
        )
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container(item)["volumeMounts"]}
        assert mounts["/etc/dask"]["configMap"]["name"] == config["metadata"]["name"], title(item)
        assert env(item)["DASK_CONFIG"] == "/etc/dask", title(item)


@each_case
def test_replicas_have_one_owner(case):
    objects = render("helm", "-f", case)
    scaled = {
        item["spec"]["scaleTargetRef"]["name"]
        for item in objects
        if item["kind"] == "HorizontalPodAutoscaler"
    }
    for item, _ in pods(objects):
        assert ("replicas" in item["spec"]) != (item["metadata"]["name"] in scaled), title(item)


@each_case
def test_probes(case):
    objects = render("helm", "-f", case)
    assert (
        container(one(objects, "Deployment", "study-scheduler"))["livenessProbe"]["httpGet"]["path"]
        == "/health"
    )
    worker = container(workers(objects))
    assert worker["startupProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert "livenessProbe" not in worker, "a task that holds the interpreter's lock would be killed"
    assert flag(workers(objects), "--death-timeout").isdigit()


def test_default_dask_configuration():
    config = one(render("helm"), "ConfigMap", "study-dask-config")
    distributed = json.loads(config["data"]["modelops.json"])["distributed"]
    assert distributed["worker"]["memory"] == {"target": 0.85, "spill": 0.9, "pause": 0.95, "terminate": 0.98}
    assert distributed["admin"] == {"tick": {"interval": "500ms"}}
    assert distributed["scheduler"] == {"worker-saturation": 1.0, "no-workers-timeout": "300s"}
    assert distributed["comm"]["timeouts"] == {"connect": "30s", "tcp": "30s"}
    assert distributed["comm"]["retry"] == {"count": 3, "delay": {"min": "1s", "max": "20s"}}
    assert flag(workers(render("helm")), "--death-timeout") == "60"


def test_dask_reads_the_mounted_file(tmp_path):
    """Dask itself, in a process of its own, finds a large integer and false as they were written."""
    mine = {
        "dask": {"config": {"distributed": {"scheduler": {"bandwidth": 1000000, "work-stealing": False}}}}
    }
    objects = render("helm", *stated(mine, tmp_path / "mine.yaml"))
    config = one(objects, "ConfigMap", "study-dask-config")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "modelops.json").write_text(config["data"]["modelops.json"])
    program = (
        "import json, dask.config, distributed; s = dask.config.get('distributed.scheduler');"
        "print(json.dumps([s['bandwidth'], s['work-stealing'], s['worker-saturation']]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"DASK_CONFIG": str(tmp_path / "etc"), "HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [1000000, False, 1], done.stderr
