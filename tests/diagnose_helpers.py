"""The labelled set: small models under tests/bundles/diagnose, each with a study and its true cause. More of
them, and models that need packages from PyPI, are under benchmarks/diagnose_models.

label.toml -> Label; a Diagnosis and a Label -> what is wrong with the diagnosis, in words

Used by the tests and by `make bench-diagnose` alike. A new case is a folder: no code.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops_dask import bundle as bundles
from modelops_dask.bundle import Bundle
from modelops_dask.environments import venv
from modelops_dask.plan import spec
from modelops_dask.settings import Settings

FOLDER = Path(__file__).parent / "bundles" / "diagnose"
MORE = Path(__file__).parents[1] / "benchmarks" / "diagnose_models"
SURE = 0.9  # of a verdict
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/label.toml"))
MORE_NAMES = sorted(path.parent.name for path in MORE.glob("*/label.toml"))


@dataclass(frozen=True)
class Label:
    """What is true of a model, as far as it can be told.

    image: it needs the worker's packages. polluter: parameters of the task that changes others (None: there
    is none); polluter_shares: names of parameters that it has in common with its victim. changed: a part of
    what it leaves behind. source: file and call that chance comes from. bytes_per_task: what it leaks.
    patch: file, old and new text, what somebody did to its kept environment. executor: the type that helps.
    """

    verdict: str
    image: bool = False
    polluter: Mapping[str, Any] | None = None
    polluter_shares: tuple[str, ...] | None = None
    changed: str = ""
    source: Mapping[str, str] | None = None
    bytes_per_task: int = 0
    patch: Mapping[str, str] | None = None
    executor: str = ""


@dataclass(frozen=True)
class Case:
    """A model of the labelled set."""

    name: str

    @property
    def folder(self) -> Path:
        return (FOLDER if self.name in NAMES else MORE) / self.name

    @property
    def label(self) -> Label:
        return Label(**tomllib.loads((self.folder / "label.toml").read_text()))

    @property
    def spec(self) -> spec.Spec:
        return spec.load(self.folder / "study.yaml")

    def settings(self, folder: Path) -> Settings:
        """Settings whose caches are under a folder, with the environment that the model needs."""
        return Settings(
            bundles_cache_dir=folder / "bundles",
            venvs_dir=folder / "venvs",
            executor_environment="image" if self.label.image else "bundle",
        )

    def prepare(self, settings: Settings) -> Bundle:
        """The bundle in the cache; what the label says of its kept environment is done to it."""
        bundle = bundles.fetch(str(self.folder), settings.bundles_cache_dir)
        if patch := self.label.patch:
            kept = venv.environment(bundle, settings)
            (path,) = kept.python.parents[1].glob(f"lib/python*/site-packages/{patch['file']}")
            text = path.read_text()
            assert patch["old"] in text
            path.write_text(text.replace(patch["old"], patch["new"]))
            # Compiled code of the same second and size would still be taken for it.
            os.utime(path, times=(later := path.stat().st_mtime + 10, later))
        return bundle


def wrong(found: Mapping[str, Any], label: Label) -> Iterator[str]:
    """What a diagnosis (as_json) says that the label does not, or leaves out."""
    if found["verdict"] != label.verdict:
        yield f"{found['verdict']}, and it is {label.verdict}"
        return
    is_counted = (
        label.verdict not in ("healthy", "memory", "seed-unused") and not found["facts"]["surroundings"]
    )
    if is_counted and not found["evidence"]["differing"]:
        yield f"nothing is said to differ: {found['evidence']}"
    if label.verdict != "healthy" and found["confidence"] < SURE:  # of which more tasks would be surer
        yield f"confidence is {found['confidence']}"
    if label.executor not in ("", advised := found["values"]["executor"]["type"]):
        yield f"executor {advised} does not help"
    if label.polluter is not None or label.polluter_shares is not None:
        yield from _wrong_polluter(found["polluter"], label)
    lines = "\n".join(found["evidence"]["lines"])
    if label.verdict != "process-reuse" and label.changed not in lines:
        yield f"what is said, {lines!r}, lacks {label.changed}"
    if label.source and not any(_is(source, label.source) for source in found["sources"]):
        yield f"sources {found['sources']} lack {label.source}"
    if label.bytes_per_task:
        memory = found["memory"] or {}
        low, high = memory.get("low", 0), memory.get("high", 0)
        if not low <= 1.1 * label.bytes_per_task or not high >= 0.9 * label.bytes_per_task:
            yield f"memory grows by {label.bytes_per_task:,} bytes a task, said is {low:,} to {high:,}"


def _wrong_polluter(polluter: Mapping[str, Any] | None, label: Label) -> Iterator[str]:
    if not polluter or len(polluter["tasks"]) != 1:
        yield f"no single task is found that pollutes: {polluter}"
        return
    (guilty,), victim = polluter["tasks"], polluter["victim"]
    if any(guilty["params"].get(name) != value for name, value in (label.polluter or {}).items()):
        yield f"the polluter {guilty['params']} is not one with {dict(label.polluter or {})}"
    for name in label.polluter_shares or ():
        if guilty["params"][name] != victim["params"][name]:
            yield f"polluter {guilty['params']} and victim {victim['params']} differ in {name}"
    if label.changed not in "\n".join(polluter["changed"]):
        yield f"what changed in the process, {polluter['changed']}, lacks {label.changed}"


def _is(source: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return source["confirmed"] and source["file"] == wanted["file"] and wanted["call"] in source["call"]
