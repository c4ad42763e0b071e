"""Turn a study on this machine into a Job in a cluster.

Spec, Bundle, a release's Offer -> Order -> possible refusals: limits, the API server -> Job -> Submission

The Job's name is a hash of its work, so that the same study submitted again is the same Job: a running one is
not changed, an ended one is replaced and continues in the same store. Nothing is created before all possible
refusals were checked. Nothing is printed here.
"""

import gzip
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.pack import pack
from modelops_dask.bundle.reference import parse
from modelops_dask.environments.interpreters import check_request
from modelops_dask.errors import BadInput
from modelops_dask.kube import jobs, study_jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.jobs import Offer, Order
from modelops_dask.kube.study_jobs import StudyJob
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.store import profile
from modelops_dask.store.files import Store
from modelops_dask.study.acceptance import are_harmless, compare_cached, shorten
from modelops_dask.study.check import N_TASKS
from mops_helm.study.progress import format_duration

_SHOWN_DIGITS = 8  # characters of a bundle's digest in the name of a store
SHARED = "/shared"  # the mount path of the release's shared volume


@dataclass(frozen=True)
class SubmitRequest:
    """The user's request, checked on this machine."""

    spec: Spec
    bundle: Bundle
    chunks: int = 0
    store: str = ""
    retry: Sequence[str] = ()
    n_checks: int = N_TASKS
    redo: str = ""
    command: str = ""  # the command as typed


@dataclass(frozen=True)
class Submission:
    """A study that is now in the cluster."""

    job: str
    store: str
    outcome: Literal["submitted", "running", "continued"]  # running: it already existed
    other_studies: tuple[StudyJob, ...] = ()  # other studies that currently write the same store
    store_note: str = ""  # why the store is, or is not, that of an earlier Job with another bundle


class TooManyStudies(BadInput):
    """studies.maxActive of the release is reached."""

    def __init__(self, release: str, most: int, active: list[StudyJob], location: str) -> None:
        super().__init__(release, most, active, location)
        self.release, self.most, self.active, self.location = release, most, active, location

    def __str__(self) -> str:
        running = "\n".join(f"  {study.job}  {study.study}, {study.state}" for study in self.active)
        return (
            f"Release {self.release} runs at most {self.most} studies at a time (studies.maxActive of its "
            f"values), and that many are running:\n{running}\nWait for one to end, or cancel one:  "
            "mops-helm study "
            f"cancel {self.active[0].job} {self.location}"
        )


class TooLong(BadInput):
    """The study is expected to take longer than studies.maxDurationSeconds."""

    def __init__(self, release: str, seconds: float, slots: int, most_seconds: int, measured: int) -> None:
        super().__init__(release, seconds, slots, most_seconds, measured)
        self.release, self.seconds, self.slots = release, seconds, slots
        self.most_seconds, self.measured = most_seconds, measured

    def __str__(self) -> str:
        expected, limit = format_duration(self.seconds), format_duration(self.most_seconds)
        return (
            f"Based on {self.measured:,} measured tasks, this study needs about {expected} with {self.slots} "
            f"concurrent tasks, but release {self.release} ends studies after {limit} "
            "(studies.maxDurationSeconds of its values). Split the study, use more --chunks or "
            "workers, or have that limit raised."
        )


def submit(
    cluster: Cluster, release: str, request: SubmitRequest, send: Callable[[Offer, str, str, bytes], None]
) -> Submission:
    """Create the Job of a study, or find the existing one.

    `send(offer, store, digest, data)` puts a bundle that is too large for the Job into the store. Raises
    NoPython, NoStudies, TooManyStudies, TooLong, BadInput, and RequestRefused with the API server's message.
    """
    check_request(request.bundle, Settings())
    offer = jobs.read_offer(cluster, release)
    studies = study_jobs.list_study_jobs(cluster)
    store, store_note = find_earlier_store(offer, request, studies)
    order, packed_bundle = make_order(offer, request, store)
    job, config_map = jobs.build(offer, order)
    existing_job = jobs.read(cluster, order.name)
    existing_study = study_jobs.parse_job(existing_job) if existing_job else None
    if existing_study and not existing_study.ended and existing_study.state != "cancelled":
        jobs.create(cluster, job, config_map)  # its files, if the earlier submission was interrupted
        return Submission(order.name, store, "running", store_note=store_note)
    check_duration(offer, request)
    active_studies = [study for study in studies if not study.ended and study.job != order.name]
    _check_active(offer, active_studies, cluster.flags)
    jobs.dry_run(cluster, job, config_map)
    if packed_bundle:
        send(offer, store, request.bundle.digest, packed_bundle)
    if existing_study:
        jobs.remove(cluster, order.name, existing_study.uid)
    if not jobs.create(cluster, job, config_map):
        return Submission(order.name, store, "running", store_note=store_note)
    other_studies = tuple(study for study in active_studies if study.store == store)
    outcome: Literal["submitted", "continued"] = "continued" if existing_study else "submitted"
    return Submission(order.name, store, outcome, other_studies, store_note)


def find_earlier_store(offer: Offer, request: SubmitRequest, studies: Sequence[StudyJob]) -> tuple[str, str]:
    """Choose the store, and explain the consequences of an earlier Job of this study with another bundle.

    It is the store of the newest Job whose bundle differs only in files that the model does not read, as far
    as this machine has that bundle in its cache; otherwise that of choose_store().
    """
    store = choose_store(offer, request)
    if request.store:
        return store, ""
    earlier = [
        study
        for study in sorted(studies, key=lambda study: study.created, reverse=True)
        if study.bundle != request.bundle.digest
        and study.store != store
        and re.fullmatch(f"{re.escape(store[:-_SHOWN_DIGITS])}[0-9a-f]{{{_SHOWN_DIGITS}}}", study.store)
    ]
    for study in earlier:
        changes = compare_cached(request.bundle, study.bundle, request.spec)
        if are_harmless(changes):
            return study.store, (
                f"The bundle differs from that of {study.job} only in files that the model does not read, "
                "so the store "
                f"is the same: {shorten(changes)}"
            )
    if not earlier:
        return store, ""
    changes = compare_cached(request.bundle, earlier[0].bundle, request.spec)
    what = f": {shorten(changes)}" if changes else ""
    return store, (
        f"The bundle differs from that of {earlier[0].job}{what}. This is therefore a new study with its own "
        f"store; the earlier results are in {earlier[0].store}"
    )


def choose_store(offer: Offer, request: SubmitRequest) -> str:
    """--store, otherwise a folder of the release's: a changed model, or another command, is a new study
    there.
    """
    if not request.store:
        base = offer.facts["store"].rstrip("/")
        if not base:
            raise BadInput(
                f"Release {offer.release} has no store for results: name one with --store URL, or set "
                "studies.store in its values, s3://BUCKET/studies or /shared/studies (sharedVolume.enabled)"
            )
        digest, label = request.bundle.digest.removeprefix("sha256:"), jobs.as_label(request.spec.name)
        if request.spec.program:
            label += f"-{request.spec.model.rpartition('_')[2][:_SHOWN_DIGITS]}"
        return f"{base}/{label}-{digest[:_SHOWN_DIGITS]}"
    mounts = {
        mount["mountPath"]
        for container in offer.job["spec"]["template"]["spec"]["containers"]
        for mount in container["volumeMounts"]
    }
    store = request.store.rstrip("/")
    if "@" in store.partition("://")[2].partition("/")[0]:
        raise BadInput(
            "The URL of a store must not contain a name or password: use envFromSecrets of the release."
        )
    if "://" in store and not store.startswith(("file://", "memory://")):
        return store
    if store.startswith(f"{SHARED}/") and SHARED in mounts:
        return store
    hint = f"{SHARED}/FOLDER" if SHARED in mounts else f"{SHARED}/FOLDER with sharedVolume.enabled=true"
    raise BadInput(f"--store {request.store} is not visible to every pod; use a URL (s3://...), or {hint}")


def make_document(spec: Spec) -> dict[str, Any]:
    """A study's content for a pod: named, and without the bundle, which is sent separately."""
    document = {**spec.source, "name": spec.name}
    document.pop("bundle", None)
    if not spec.names_scenario:  # images of earlier versions need one
        document["scenario"] = spec.entrypoint.partition("/")[2]
    return document


def make_order(offer: Offer, request: SubmitRequest, store: str) -> tuple[Order, bytes]:
    """The order, and a bundle that is too large for it and must be sent to the store; b"" otherwise."""
    digest = request.bundle.digest
    document = make_document(request.spec)
    text = _to_json(document)  # in the written order, which is that of a grid's sets
    own = [document, digest, offer.release, request.chunks, store, *([request.redo] if request.redo else [])]
    identity = _to_json(own, sort_keys=True)
    name = f"study-{hashlib.sha256(identity).hexdigest()[:12]}"
    files, reference, to_store = {"spec.json": text}, "", b""
    if request.bundle.source and parse(request.bundle.source).kind == "artifact":
        reference = request.bundle.source
    else:
        packed = pack(request.bundle)
        if len(packed) + len(text) > jobs.MOST_FILE_BYTES:
            files = {"spec.json.gz": gzip.compress(text, mtime=0)}
        if len(packed) + sum(map(len, files.values())) <= jobs.MOST_FILE_BYTES:
            files["bundle.tar.gz"], reference = packed, f"{jobs.FOLDER}/bundle.tar.gz"
        else:
            to_store = packed
            reference = f"{store}/bundles/{digest.removeprefix('sha256:')}.tar.gz"
    (spec_name, data), *_ = files.items()
    if len(data) > jobs.MOST_FILE_BYTES:
        raise BadInput(
            f"{request.spec.path}: {len(data):,} bytes compressed, but a Job can carry "
            f"{jobs.MOST_FILE_BYTES:,}; "
            "write a grid or a sample for the parameter sets, or split the study"
        )
    args = ["python", "-m", "modelops_dask.driver", "--spec", f"{jobs.FOLDER}/{spec_name}"]
    args += ["--bundle", reference, "--store", store]
    args += ["--shape", json.dumps(offer.facts["shape"])]
    if request.chunks:
        args += ["--chunk", f"$(JOB_COMPLETION_INDEX)/{request.chunks}"]
    else:
        args += ["--scheduler", offer.facts["scheduler"]]
    if request.retry:
        args += ["--retry", ",".join(request.retry)]
    if request.n_checks != N_TASKS:  # images of earlier versions do not know the flag
        args += ["--check", str(request.n_checks)]
    if request.redo:
        # The id, and so the redo, is the same for all pods of this Job, and changes when it is replaced.
        args += ["--redo", request.redo, "--redo-request", uuid.uuid4().hex]
    order = Order(
        name=name,
        study=request.spec.name,
        store=store,
        bundle=digest,
        command=request.command,
        args=tuple(args),
        files=files,
        chunks=request.chunks,
    )
    return order, to_store


def _to_json(value: Any, **options: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, **options).encode()


def _check_active(offer: Offer, active: list[StudyJob], location: str) -> None:
    """Raise TooManyStudies if too many studies, of all releases, have not ended."""
    of_release = [study for study in active if study.release == offer.release]
    if len(of_release) >= offer.facts["maxActive"]:
        raise TooManyStudies(offer.release, offer.facts["maxActive"], of_release, location)


def check_duration(offer: Offer, request: SubmitRequest) -> None:
    """Raise TooLong according to measurements on this machine: in out/NAME, or in a neighbouring folder."""
    measured_profile = profile.find(
        Store(f"out/{request.spec.name}"), request.bundle.digest, request.spec.entrypoint
    )
    slots = offer.facts["slots"]["chunk"] * request.chunks or offer.facts["slots"]["release"]
    if measured_profile and slots:
        most_seconds = offer.facts["maxDurationSeconds"]
        seconds = measured_profile.mean_seconds * request.spec.n_tasks / min(slots, request.spec.n_tasks)
        if seconds > most_seconds:
            raise TooLong(offer.release, seconds, slots, most_seconds, measured_profile.tasks)
