"""From a study on this machine to its Job in a cluster.

Spec, Bundle, a release's Offer -> Order -> what can refuse it: limits, the API server -> Job -> Submission

The Job's name is a hash of what it will do, so that the same study submitted again is the same Job: one that
runs is left alone, one that ended is replaced and goes on in the same store. Nothing is created before all
that can refuse it was asked. Prints nothing.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelops_dask.bundle import Bundle
from modelops_dask.bundle.pack import pack
from modelops_dask.bundle.reference import parse
from modelops_dask.errors import BadInput
from modelops_dask.kube import jobs, submitted
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.jobs import Offer, Order
from modelops_dask.kube.submitted import Submitted
from modelops_dask.store.files import Files
from modelops_dask.study import profile
from modelops_dask.study.spec import Spec
from mops_helm.progress import duration

SHARED = "/shared"  # where pods have the release's shared volume


@dataclass(frozen=True)
class Request:
    """What a person asked for, checked on this machine."""

    spec: Spec
    bundle: Bundle
    chunks: int = 0
    store: str = ""
    retry: Sequence[str] = ()
    command: str = ""  # what was typed


@dataclass(frozen=True)
class Submission:
    """A study that is in the cluster now."""

    job: str
    store: str
    how: Literal["submitted", "running", "continued"]  # running: it was there already
    beside: tuple[Submitted, ...] = ()  # other studies that write the same store now


class TooManyStudies(BadInput):
    """studies.maxActive of the release is reached."""

    def __init__(self, release: str, most: int, active: list[Submitted], namespace: str) -> None:
        super().__init__(release, most, active, namespace)
        self.release, self.most, self.active, self.namespace = release, most, active, namespace

    def __str__(self) -> str:
        running = "\n".join(f"  {one.job}  {one.study}, {one.state}" for one in self.active)
        return (
            f"Release {self.release} runs at most {self.most} studies at a time (studies.maxActive of its "
            f"values), and so many are there:\n{running}\nWait for one to end, or end one:  mops-helm study "
            f"cancel {self.active[0].job} -n {self.namespace}"
        )


class TooLong(BadInput):
    """The study is expected to take longer than studies.maxDurationSeconds."""

    def __init__(self, release: str, seconds: float, slots: int, most_seconds: int, measured: int) -> None:
        super().__init__(release, seconds, slots, most_seconds, measured)
        self.release, self.seconds, self.slots = release, seconds, slots
        self.most_seconds, self.measured = most_seconds, measured

    def __str__(self) -> str:
        return (
            f"By what {self.measured:,} tasks took, this study needs about {duration(self.seconds)} with "
            f"{self.slots} tasks side by side, and release {self.release} ends studies after "
            f"{duration(self.most_seconds)} (studies.maxDurationSeconds of its values). Split the study, use "
            "more --chunks or workers, or have that limit raised."
        )


def submit(
    cluster: Cluster, release: str, asked: Request, send: Callable[[Offer, str, str, bytes], None]
) -> Submission:
    """Create the Job of a study, or find that it is there.

    `send(offer, store, digest, data)` puts a bundle into the store, one that is too large for the Job to
    carry. Raises NoStudies, TooManyStudies, TooLong, BadInput, and Refused with what the API server says.
    """
    offered = jobs.offer(cluster, release)
    store = store_of(offered, asked)
    order, sent = order_of(offered, asked, store)
    job, kept = jobs.build(offered, order)
    before = jobs.read(cluster, order.name)
    known = submitted.of(before) if before else None
    if known and not known.ended and known.state != "cancelled":
        jobs.create(cluster, job, kept)  # its files, if who submitted it was cut off before
        return Submission(order.name, store, "running")
    check_duration(offered, asked)
    active = [one for one in submitted.listed(cluster) if not one.ended and one.job != order.name]
    _check_active(offered, active, cluster.namespace)
    jobs.rehearse(cluster, job, kept)
    if sent:
        send(offered, store, asked.bundle.digest, sent)
    if known:
        jobs.remove(cluster, order.name, known.uid)
    if not jobs.create(cluster, job, kept):
        return Submission(order.name, store, "running")
    beside = tuple(one for one in active if one.store == store)
    return Submission(order.name, store, "continued" if known else "submitted", beside)


def store_of(offered: Offer, asked: Request) -> str:
    """--store, else a folder of the release's: a changed model is a new study there."""
    if not asked.store:
        base = offered.facts["store"].rstrip("/")
        if not base:
            raise BadInput(
                f"Release {offered.release} has no place for results: name one with --store URL, or set "
                "studies.store in its values, s3://BUCKET/studies or /shared/studies (sharedVolume.enabled)"
            )
        digest = asked.bundle.digest.removeprefix("sha256:")
        return f"{base}/{jobs.as_label(asked.spec.name)}-{digest[:8]}"
    mounts = {
        mount["mountPath"]
        for one in offered.job["spec"]["template"]["spec"]["containers"]
        for mount in one["volumeMounts"]
    }
    store = asked.store.rstrip("/")
    if "@" in store.partition("://")[2].partition("/")[0]:
        raise BadInput(
            "A store's URL must hold no name or password: envFromSecrets of the release give those."
        )
    if "://" in store and not store.startswith(("file://", "memory://")):
        return store
    if store.startswith(f"{SHARED}/") and SHARED in mounts:
        return store
    hint = f"{SHARED}/FOLDER" if SHARED in mounts else f"{SHARED}/FOLDER with sharedVolume.enabled=true"
    raise BadInput(f"--store {asked.store} is no place that all pods see; use a URL (s3://...), or {hint}")


def document_of(spec: Spec) -> dict[str, Any]:
    """A study's content as a pod gets it: named, and without the bundle, which travels by itself."""
    document = {**spec.source, "name": spec.name}
    document.pop("bundle", None)
    return document


def order_of(offered: Offer, asked: Request, store: str) -> tuple[Order, bytes]:
    """The order, and a bundle that is too large for it and must be sent to the store; b"" if it is not."""
    digest = asked.bundle.digest
    document = document_of(asked.spec)
    text = _json(document)  # in the order as written, which is that of a grid's sets
    identity = _json([document, digest, offered.release, asked.chunks, store], sort_keys=True)
    name = f"study-{hashlib.sha256(identity).hexdigest()[:12]}"
    files, reference, sent = {"spec.json": text}, "", b""
    if asked.bundle.source and parse(asked.bundle.source).kind == "artifact":
        reference = asked.bundle.source
    else:
        packed = pack(asked.bundle)
        if len(packed) + len(text) > jobs.MOST_FILE_BYTES:
            files = {"spec.json.gz": gzip.compress(text, mtime=0)}
        if len(packed) + sum(map(len, files.values())) <= jobs.MOST_FILE_BYTES:
            files["bundle.tar.gz"], reference = packed, f"{jobs.FOLDER}/bundle.tar.gz"
        else:
            sent = packed
            reference = f"{store}/bundles/{digest.removeprefix('sha256:')}.tar.gz"
    (spec_name, data), *_ = files.items()
    if len(data) > jobs.MOST_FILE_BYTES:
        raise BadInput(
            f"{asked.spec.path}: {len(data):,} bytes, packed, and a Job carries {jobs.MOST_FILE_BYTES:,}; "
            "write a grid or a sample for the parameter sets, or split the study"
        )
    args = ["python", "-m", "modelops_dask.driver", "--spec", f"{jobs.FOLDER}/{spec_name}"]
    args += ["--bundle", reference, "--store", store]
    args += ["--shape", json.dumps(offered.facts["shape"])]
    if asked.chunks:
        args += ["--chunk", f"$(JOB_COMPLETION_INDEX)/{asked.chunks}"]
    else:
        args += ["--scheduler", offered.facts["scheduler"]]
    if asked.retry:
        args += ["--retry", ",".join(asked.retry)]
    order = Order(name, asked.spec.name, store, digest, asked.command, tuple(args), files, asked.chunks)
    return order, sent


def _json(value: Any, **how: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, **how).encode()


def _check_active(offered: Offer, active: list[Submitted], namespace: str) -> None:
    """TooManyStudies, by the studies that have not ended, of all releases."""
    own = [one for one in active if one.release == offered.release]
    if len(own) >= offered.facts["maxActive"]:
        raise TooManyStudies(offered.release, offered.facts["maxActive"], own, namespace)


def check_duration(offered: Offer, asked: Request) -> None:
    """TooLong, by what was measured on this machine: in out/NAME, or in a folder beside it."""
    found = profile.find(Files(f"out/{asked.spec.name}"), asked.bundle.digest, asked.spec.entrypoint)
    slots = offered.facts["slots"]["chunk"] * asked.chunks or offered.facts["slots"]["release"]
    if found and slots:
        most_seconds = offered.facts["maxDurationSeconds"]
        seconds = found.mean_seconds * asked.spec.n_tasks / min(slots, asked.spec.n_tasks)
        if seconds > most_seconds:
            raise TooLong(offered.release, seconds, slots, most_seconds, found.tasks)
