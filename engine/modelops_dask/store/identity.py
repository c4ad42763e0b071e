"""The identity of a store: study.json, the bundles it accepted, and which parts belong to it.

    study.json + accepted/ -> Study -> Study.refusal(a part's mark) -> "" or why the part does not count

    study.json             uuid, bundle digest and entrypoint of the study, format of the store; put-if-absent
    accepted/DIGEST.json   a further bundle whose results count, with the files that differ; put-if-absent

A part carries a mark: the uuid of its study and the digest of its bundle. So a batch that ends late, after
its store was removed and created again, is recognized, and so is a part copied from another store.

Format 1, of mops-helm 0.1, has no uuid and no marks. It becomes format 2 when a new version first runs the
study (`upgrade`); the uuid is then derived, and parts without a mark still count if their seeds match. In a
store created in format 2 a part without a mark is foreign. Format 3 is format 2 with redos (redo.py): a store
gets it when its first redo begins.
"""

import json
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from modelops_dask.errors import BadInput, MopsError
from modelops_dask.plan import contract, program
from modelops_dask.store.files import Store

FORMAT = 2  # for a new store
REDO_FORMAT = 3  # for a store with redos, the newest format that is read
FILE = "study.json"
ACCEPTED = "accepted"
# of derived uuids; the value is arbitrary but fixed
_NAMESPACE = uuid.UUID("5b0a6a0e-6f0f-5e0c-9d53-0f3c0a5f8f11")


class NoStudy(BadInput):
    """The expected study does not exist."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(location)

    def __str__(self) -> str:
        return (
            f"{self.location} has no study (no study.json). "
            f"To run one there: mops-helm study run SPEC --store {shlex.quote(self.location)}"
        )


class Damaged(MopsError):
    """A file of the store that must be complete is not."""

    def __init__(self, location: str, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(location, reason)

    def __str__(self) -> str:
        return (
            f"{self.location} is damaged ({self.reason}); restore it from a copy, or run into another --store"
        )


class PartMark(NamedTuple):
    """A part's record of its study in its metadata."""

    study: str  # uuid
    bundle: str  # digest


@dataclass(frozen=True)
class StudyIdentity:
    """study.json: what all results of a store have in common, and the bundles accepted since.

    `upgraded` is true for a study that was created in format 1. `reseeds`: generators that the model keeps at
    module level are seeded before each task; false for studies of versions that did not. `program` is run
    instead of a model (plan/program.py), "" for none. `digest_rule` chooses the files that count for a
    bundle's digest (bundle/ignore.py); 1 if study.json does not name it.
    """

    bundle: str  # digest
    entrypoint: str
    uuid: str = ""
    upgraded: bool = False
    format: int = FORMAT
    reseeds: bool = False
    program: str = ""
    digest_rule: int = 1
    accepted: tuple[str, ...] = field(default=(), compare=False)  # digests

    @property
    def bundles(self) -> tuple[str, ...]:
        """The digests of all bundles whose results count, that of study.json first."""
        return self.bundle, *self.accepted

    def refusal(self, mark: PartMark | None) -> str:
        """The reason why a part with this mark, or with none, does not count; "" if it does."""
        if mark is None:
            return "" if self.upgraded else "it does not name the study that it belongs to"
        if mark.study != self.uuid:
            return "it belongs to another study"
        if mark.bundle not in self.bundles:
            return f"it was made by bundle {mark.bundle}, which this store has not accepted"
        return ""

    def mark(self, bundle: str) -> PartMark:
        """The mark of parts that are made for this study with a bundle."""
        return PartMark(self.uuid, bundle)


def new_study(bundle: str, entrypoint: str, program: str = "", *, digest_rule: int = 1) -> StudyIdentity:
    """Make the identity of a new study."""
    return StudyIdentity(
        bundle=bundle,
        entrypoint=entrypoint,
        uuid=uuid.uuid4().hex,
        reseeds=True,
        program=program,
        digest_rule=digest_rule,
    )


def study_json(study: StudyIdentity) -> bytes:
    """The content of study.json."""
    values = asdict(study)
    del values["accepted"]
    for name in ("upgraded", "reseeds", "program"):
        if not values[name]:
            del values[name]
    if study.digest_rule == 1:
        del values["digest_rule"]
    if study.program:
        values["program"] = json.loads(study.program)
    return encode_json(values)


def read_study(store: Store) -> StudyIdentity:
    """Read study.json of a store, and its accepted bundles.

    Raises NoStudy, Damaged, or BadInput for a format of a later version.
    """
    raw: Any = read_json(store, FILE)
    try:
        bundle, entrypoint, number = raw["bundle"], raw["entrypoint"], raw["format"]
    except KeyError as error:
        raise Damaged(store.location(FILE), f"no {error}") from error
    if type(number) is not int or number < 1:
        raise Damaged(store.location(FILE), f"unknown format {number!r}")
    if number > REDO_FORMAT:
        raise BadInput(
            f"{store.location()} has format {number}, but this version reads formats up to {REDO_FORMAT}: "
            "use a newer mops-helm"
        )
    if number == 1:
        derived_uuid = _derived_uuid(bundle, entrypoint)
        study = StudyIdentity(
            bundle=bundle, entrypoint=entrypoint, uuid=derived_uuid, upgraded=True, format=1
        )
    elif isinstance(raw.get("uuid"), str) and raw["uuid"]:
        study = StudyIdentity(
            bundle=bundle,
            entrypoint=entrypoint,
            uuid=raw["uuid"],
            upgraded=raw.get("upgraded") is True,
            reseeds=raw.get("reseeds") is True,
            format=number,
            program=_read_program(store, raw),
            digest_rule=_read_digest_rule(store, raw),
        )
    else:
        raise Damaged(store.location(FILE), "no 'uuid'")
    names = store.list(ACCEPTED)
    return replace(study, accepted=tuple(f"sha256:{name.removesuffix('.json')}" for name in names))


def _read_program(store: Store, raw: dict[str, Any]) -> str:
    """The program of a study, which must match its entrypoint. Raises Damaged."""
    text = contract.canonical(raw["program"]) if raw.get("program") else ""
    if not program.is_entrypoint_of(str(raw["entrypoint"]), text):
        raise Damaged(store.location(FILE), "its program is not the one that its entrypoint names")
    return text


def _read_digest_rule(store: Store, raw: dict[str, Any]) -> int:
    number = raw.get("digest_rule", 1)
    if type(number) is not int or number < 1:
        raise Damaged(store.location(FILE), f"unknown digest rule {number!r}")
    return number


def study_of(store: Store) -> StudyIdentity | None:
    """Like read_study(), but None if the store holds no study, so that no part can belong to one."""
    try:
        return read_study(store)
    except NoStudy:
        return None


def _derived_uuid(bundle: str, entrypoint: str) -> str:
    """A uuid that is the same for every process that upgrades the store, so that they need not agree on
    one.
    """
    return uuid.uuid5(_NAMESPACE, f"{bundle} {entrypoint}").hex


def upgrade(store: Store, study: StudyIdentity, number: int = FORMAT) -> StudyIdentity:
    """Give a store a later format, keeping values that this version does not know.

    Concurrent runs write the same bytes.
    """
    upgraded = replace(study, format=number)
    store.put(FILE, encode_json({**read_json(store, FILE), **json.loads(study_json(upgraded))}))
    return upgraded


def accept(store: Store, digest: str, differences: Sequence[str]) -> None:
    """Record that results of a further bundle count, with the files that differ from an earlier one.

    Args:
        store: The store.
        digest: The bundle, "sha256:" and 64 hexadecimal digits.
        differences: One entry per file, such as "changed notes.txt".
    """
    note = {"bundle": digest, "differences": list(differences)}
    name = f"{ACCEPTED}/{digest.removeprefix('sha256:')}.json"
    store.create(name, encode_json(note))


def encode_json(value: object) -> bytes:
    """The content of a JSON file of a store."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def read_json(store: Store, name: str) -> dict[str, object]:
    """Read a JSON object of a store. Raises NoStudy if study.json is missing, else Damaged."""
    try:
        data = store.read(name)
    except FileNotFoundError:
        if name == FILE:
            raise NoStudy(store.location()) from None
        raise Damaged(store.location(name), "it is missing") from None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Damaged(store.location(name), str(error)) from error
    if not isinstance(value, dict):
        raise Damaged(store.location(name), "not an object")
    return value
