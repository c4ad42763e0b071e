"""What `study submit` makes of a study and of what a release offers, before a cluster sees it."""

import json
import os
import random
import shutil
from dataclasses import asdict

import kubernetes_validate
import pytest

from chart.rendering import one, render
from modelops_dask.bundle import fetch
from modelops_dask.errors import BadInput
from modelops_dask.kube import jobs, study_jobs
from modelops_dask.plan import spec
from modelops_dask.store import profile
from modelops_dask.store.files import Store
from mops_helm.study.studies import make_plan
from mops_helm.study.submission import (
    SubmitRequest,
    TooLong,
    check_duration,
    choose_store,
    find_earlier_store,
    make_order,
)
from study_helpers import KNOBS

SHARED = ["--set", "sharedVolume.enabled=true,studies.store=/shared/studies"]


def offer(*args):
    data = one(render("helm", *args), "ConfigMap", "study-studies")["data"]
    return jobs.Offer(*(json.loads(data[f"{part}.json"]) for part in ("release", "job", "chunk")))


@pytest.fixture(scope="module")
def offered():
    return offer(*SHARED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fetch(str(KNOBS), tmp_path_factory.mktemp("cache"))


def study(folder, text="grid: {x: [1, 2.0, 3e-5]}\nreplicates: 2\n", name="study.yaml"):
    path = folder / name
    path.write_text(f"name: knobs\nentrypoint: knobs.wire/any\n{text}")
    return spec.load(path)


def ordered(offered, loaded, bundle, **asked):
    request = SubmitRequest(loaded, bundle, **asked)
    return make_order(offered, request, choose_store(offered, request))


def test_the_same_study_has_one_name_however_it_is_written(offered, bundle, tmp_path):
    first, _ = ordered(offered, study(tmp_path), bundle)
    again = study(tmp_path, "# a word\nreplicates: 2\ngrid:\n  x: [1, 2.0, 0.00003]\n", name="other.yaml")
    assert ordered(offered, again, bundle)[0].name == first.name
    assert first.name.startswith("study-") and len(first.name) == 18
    retried, _ = ordered(offered, again, bundle, retry=("failed",))
    assert retried.name == first.name, "to retry is to go on with the same study"


def test_a_redo_is_a_job_of_its_own_with_an_id_that_its_pods_share(offered, bundle, tmp_path):
    """A run of the same study that is there already must not swallow it."""
    plain, _ = ordered(offered, study(tmp_path), bundle)
    orders = [ordered(offered, study(tmp_path), bundle, redo="executor=direct")[0] for _ in range(2)]
    assert orders[0].name == orders[1].name != plain.name
    assert "--redo" not in plain.args
    flags = [dict(zip(order.args[3::2], order.args[4::2], strict=True)) for order in orders]
    assert {each["--redo"] for each in flags} == {"executor=direct"}
    assert len({each["--redo-request"] for each in flags}) == 2, "submitted again it may begin another redo"


def test_what_makes_it_another_study_changes_the_name(offered, bundle, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(KNOBS, model)
    (model / "data.csv").write_text("1\n")
    loaded = study(tmp_path)
    names = [
        ordered(offered, one_, two, **asked)[0].name
        for one_, two, asked in [
            (loaded, bundle, {}),
            (study(tmp_path, "grid: {x: [1, 2, 3e-5]}\nreplicates: 2\n"), bundle, {}),
            (loaded, fetch(str(model), tmp_path / "cache"), {}),
            (loaded, bundle, {"chunks": 3}),
            (loaded, bundle, {"chunks": 4}),
            (loaded, bundle, {"store": "s3://bucket/mine"}),
        ]
    ]
    assert len(set(names)) == len(names)


def test_the_store_is_that_of_the_model_and_stays_when_the_study_grows(offered, bundle, tmp_path):
    store = choose_store(offered, SubmitRequest(study(tmp_path), bundle))
    assert store == f"/shared/studies/knobs-{bundle.digest[7:15]}"
    grown = study(tmp_path, "grid: {x: [1, 2, 3, 4]}\nreplicates: 9\n")
    assert choose_store(offered, SubmitRequest(grown, bundle)) == store


def test_another_command_has_another_store(offered, bundle, tmp_path):
    def store(command):
        path = tmp_path / "study.yaml"
        path.write_text(
            json.dumps({"command": command, "outputs": {"y": "-"}, "grid": {"x": [1]}, "name": "p"})
        )
        return choose_store(offered, SubmitRequest(spec.load(path), bundle))

    first = store(["./model", "{x}"])
    assert store(["./model", "{x}", "-v"]) != first == store(["./model", "{x}"])
    assert first.endswith(bundle.digest[7:15])


def earlier_job(store, digest, created=1.0):
    """A Job that was submitted before, as the cluster lists it."""
    manifest = {
        "metadata": {
            "name": f"study-{created:012.0f}",
            "uid": "u",
            "creationTimestamp": f"2026-11-{int(created):02}T10:00:00Z",
            "labels": {"modelops.io/release": "epi", "modelops.io/study": "knobs"},
            "annotations": {"modelops.io/store": store, "modelops.io/bundle": digest},
        },
        "spec": {"template": {}},
        "status": {},
    }
    return study_jobs.parse_job(manifest)


def changed_bundle(folder, **files):
    """The model with other files beside it, in the cache in which it was before."""
    model = folder / "model"
    shutil.copytree(KNOBS, model, dirs_exist_ok=True)
    for name, text in files.items():
        (model / name.replace("__", ".")).write_text(text)
    return fetch(str(model), folder / "cache")


def test_a_bundle_with_one_more_study_goes_on_in_the_store_of_the_job_before(offered, tmp_path):
    first = changed_bundle(tmp_path)
    store = choose_store(offered, SubmitRequest(study(tmp_path), first))
    job = earlier_job(store, first.digest)
    second = changed_bundle(tmp_path, more__yaml="model: m.f\nscenario: b\ngrid: {x: [1]}\n")
    request = SubmitRequest(study(tmp_path), second)
    assert choose_store(offered, request) != store
    chosen, note = find_earlier_store(offered, request, [job])
    assert chosen == store and "added more.yaml (a study)" in note and job.job in note
    third = changed_bundle(tmp_path, again__yaml="model: m.f\nscenario: b\ngrid: {x: [2]}\n")
    later = earlier_job(store, second.digest, 2.0)
    assert find_earlier_store(offered, SubmitRequest(study(tmp_path), third), [later])[0] == store
    own = SubmitRequest(study(tmp_path), second, store="/shared/own")
    assert find_earlier_store(offered, own, [job]) == ("/shared/own", "")


def test_a_model_that_changed_gets_a_store_of_its_own_and_a_line(offered, tmp_path):
    first = changed_bundle(tmp_path)
    store = choose_store(offered, SubmitRequest(study(tmp_path), first))
    second = changed_bundle(tmp_path, data__csv="1\n")
    request = SubmitRequest(study(tmp_path), second)
    chosen, note = find_earlier_store(offered, request, [earlier_job(store, first.digest)])
    assert chosen == choose_store(offered, request) != store
    assert "added data.csv" in note and f"the earlier results are in {store}" in note
    unknown = earlier_job(f"{store[:-8]}01234567", "sha256:" + "0" * 64)
    assert find_earlier_store(offered, request, [unknown])[0] == chosen
    elsewhere = ("/shared/studies/other-01234567", "s3://bucket/knobs", f"{store}0")
    others = [earlier_job(location, first.digest) for location in elsewhere]
    assert find_earlier_store(offered, request, others) == (chosen, "")


def test_the_pod_reads_the_same_tasks_as_this_machine(offered, bundle, tmp_path):
    text = "grid: {y: [2, 1], x: {low: 0.1, high: 1, num: 7, scale: log}}\nreplicates: 2\n"
    here = study(tmp_path, text)
    order, _ = ordered(offered, here, bundle)
    (tmp_path / "spec.json").write_bytes(order.files["spec.json"])
    there = spec.load(tmp_path / "spec.json")
    assert list(make_plan(there).tasks([(0, 28)])) == list(make_plan(here).tasks([(0, 28)]))
    assert (there.name, there.n_tasks) == ("knobs", 28)
    (tmp_path / "bundle.tar.gz").write_bytes(order.files["bundle.tar.gz"])
    assert fetch(str(tmp_path / "bundle.tar.gz"), tmp_path / "there").digest == bundle.digest


@pytest.mark.parametrize("chunks", [0, 5])
def test_the_job_is_one_that_kubernetes_takes_and_its_driver_finds_everything(
    offered, bundle, tmp_path, chunks
):
    order, _ = ordered(offered, study(tmp_path), bundle, chunks=chunks, retry=("failed", "poisoned"))
    job, kept = jobs.build(offered, order)
    for item in (job, kept):
        kubernetes_validate.validate(item, "1.34", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    flags = dict(zip(container["args"][3::2], container["args"][4::2], strict=True))
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/study", "/shared"} <= mounted
    assert set(kept["binaryData"]) == {"spec.json", "bundle.tar.gz"}
    assert flags.pop("--spec") == "/study/spec.json" and flags.pop("--bundle") == "/study/bundle.tar.gz"
    assert flags.pop("--store") == job["metadata"]["annotations"]["modelops.io/store"] == order.store
    assert flags.pop("--retry") == "failed,poisoned"
    assert json.loads(flags.pop("--shape"))["processes"] == 4
    if chunks:
        assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (5, 5)
        assert flags.pop("--chunk") == "$(JOB_COMPLETION_INDEX)/5"
    else:
        assert flags.pop("--scheduler") == "tcp://study-scheduler:8786"
    assert not flags
    assert job["metadata"]["labels"]["modelops.io/release"] == "study"


def test_a_bundle_that_is_too_large_for_the_job_goes_into_the_store(offered, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(KNOBS, model)
    (model / "data.bin").write_bytes(os.urandom(jobs.MOST_FILE_BYTES))
    large = fetch(str(model), tmp_path / "cache")
    order, sent = ordered(offered, study(tmp_path), large)
    assert len(sent) > jobs.MOST_FILE_BYTES and "bundle.tar.gz" not in order.files
    place = f"{order.store}/bundles/{large.digest[7:]}.tar.gz"
    assert order.args[order.args.index("--bundle") + 1] == place


def test_many_sets_are_packed_and_too_many_refused(offered, bundle, tmp_path):
    numbers = random.Random(7)

    def sets(count):
        document = {"entrypoint": "knobs.wire/any", "sets": [{"x": numbers.random()} for _ in range(count)]}
        (tmp_path / "study.json").write_text(json.dumps(document))
        return spec.load(tmp_path / "study.json")

    order, _ = ordered(offered, sets(60_000), bundle)
    assert "spec.json.gz" in order.files and "/study/spec.json.gz" in order.args
    assert sum(map(len, order.files.values())) <= jobs.MOST_FILE_BYTES
    with pytest.raises(BadInput, match="write a grid or a sample"):
        ordered(offered, sets(130_000), bundle)


@pytest.mark.parametrize(
    ("args", "store", "said"),
    [
        ([], "", "has no store for results: name one with --store URL"),
        ([], "out/sir", "not visible to every pod"),
        ([], "/shared/sir", "with sharedVolume.enabled=true"),
        (SHARED, "/data/sir", "or /shared/FOLDER"),
        (SHARED, "memory://sir", "not visible to every pod"),
        (SHARED, "s3://key:secret@bucket/sir", "not contain a name or password"),
    ],
)
def test_a_store_that_pods_do_not_see_is_refused(args, store, said, bundle, tmp_path):
    with pytest.raises(BadInput, match=said) as refused:
        choose_store(offer(*args), SubmitRequest(study(tmp_path), bundle, store=store))
    assert "secret" not in str(refused.value)


def test_a_study_that_would_take_longer_than_the_release_lets_it_is_refused(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hour = offer(*SHARED, "--set", "studies.maxDurationSeconds=3600,workers.replicas=2")
    loaded = study(tmp_path, "grid: {x: [1, 2]}\nreplicates: 1000\n")
    check_duration(hour, SubmitRequest(loaded, bundle))  # nothing was measured
    measured = profile.Profile(bundle.digest, loaded.entrypoint, "cold", 20, 15.0, 20.0, 1, 1, 1)
    Store("out/pilot").put(profile.FILE, json.dumps(asdict(measured)).encode())
    with pytest.raises(TooLong) as refused:  # 2,000 tasks of 15 s, 8 side by side
        check_duration(hour, SubmitRequest(loaded, bundle))
    assert "about 1 h 02 min with 8 concurrent tasks" in str(refused.value)
    assert "ends studies after 1 h 00 min (studies.maxDurationSeconds" in str(refused.value)
    check_duration(hour, SubmitRequest(loaded, bundle, chunks=3))  # 12


def test_names_become_labels():
    assert jobs.as_label("sir grid, März/2") == "sir-grid--M-rz-2"
    assert jobs.as_label("-" * 70 + "x" * 70) == "study"
    assert len(jobs.as_label("x" * 64)) == 63
