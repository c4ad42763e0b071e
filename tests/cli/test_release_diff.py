"""A diff shows what changes in an object, and never what a secret holds."""

import base64

from mops_helm.release import diff as release_diff


def objects(*items):
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


def item(kind, **more):
    return {"kind": kind, "metadata": {"name": "sims"}, **more}


def test_of_a_secret_only_that_it_changes():
    old, new = (base64.b64encode(text).decode() for text in (b"open sesame", b"friend"))
    before = objects(item("Secret", data={"password": old, "user": old}, stringData={"note": "plain word"}))
    after = objects(item("Secret", data={"password": new, "user": old}, stringData={"note": "plain word"}))
    said = release_diff.unified(before, after)
    assert "-  password: (hidden)\n+  password: (hidden, new)" in said
    assert "   user: (hidden)" in said
    for text in (old, new, "plain word", "sesame", "friend"):
        assert text not in said + release_diff.unified({}, after) + release_diff.unified(before, {})


def test_json_in_a_config_map_is_compared_line_by_line():
    before = objects(item("ConfigMap", data={"job.json": '{"a": 1, "b": 2}'}))
    after = objects(item("ConfigMap", data={"job.json": '{"a": 1, "b": 3}'}))
    assert "-    b: 2\n+    b: 3" in release_diff.unified(before, after)


def test_what_is_new_what_goes_and_what_stays():
    before = objects(item("Service"), item("Deployment", spec={"replicas": 1}), item("Role"))
    after = objects(item("Service"), item("Deployment", spec={"replicas": 2}), item("Job"))
    assert release_diff.summary(before, after) == ["~ Deployment/sims", "- Role/sims", "+ Job/sims"]
    assert release_diff.unified(before, before) == ""


def test_values_are_compared_by_name():
    before = {"workers": {"replicas": 1, "env": {}}, "layers": {"workload": "ml"}}
    after = {"workers": {"replicas": 2, "env": {}}, "layers": {"workload": "etl"}}
    assert release_diff.values(before, after) == [("workers.replicas", 1, 2)]
