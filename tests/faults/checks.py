"""What must hold of a study after its faults: the results of its own tasks, and every stray part named.

Disturbed, a study file -> expected(): what the tasks must come to, by docs/study-file.md and the model alone
the store               -> content(), check_content(), check_store(): Wrong where it is anything else

The expectation uses nothing of the engine, so that no mistake of it is on both sides.
"""

import io
import json
import re
from hashlib import blake2b
from typing import NamedTuple

import pyarrow.parquet as pq

from faults.disturbed import OWN, TROUBLES, Disturbed, Run
from modelops_dask.executors.messages import OUT_OF_TURN
from modelops_dask.store.fold import fold
from modelops_dask.store.parts import NotAPart, list_parts, open_part_file, scan
from modelops_dask.store.study import read_plan
from modelops_dask.store.verify import verify

OUT_OF_TURN_TROUBLES = ("babbles", "forges")
IN_ITS_PART = re.compile(r"in its part ([^,]+),")  # of a merged file, in a finding of verify
PART = re.compile(r".* \(part (.+)\)")  # of a merged file, in what was passed over
REFUSALS = ("is being run by process", "holds results of another", "cannot reach the store", "has no study")


class Wrong(Exception):
    """What does not hold."""


class Task(NamedTuple):
    """What became of a task; `output` is None unless it ended ok."""

    x: int
    replicate: int
    seed: int
    param_id: str
    status: str
    output: bytes | None


def expected(study: Disturbed, spec: str = OWN) -> list[Task]:
    """What the tasks of a study file must come to, by x and replicate."""
    sets, replicates = study.request(spec)
    return [_expected(study, x, replicate) for x in sets for replicate in range(replicates)]


def _expected(study: Disturbed, x: int, replicate: int) -> Task:
    text = json.dumps(study.params(x), sort_keys=True, separators=(",", ":"))
    param_id = blake2b(f"contracts:param:v1|{text}".encode(), digest_size=32).hexdigest()
    digest = blake2b(f"{param_id}:{replicate}".encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "big") % 2**32
    status = TROUBLES[study.conditions.trouble] if study.conditions.troubled(x) else "ok"
    output = f"{x}:{seed}".encode() if status == "ok" else None
    return Task(x, replicate, seed, param_id, status, output)


def content(study: Disturbed) -> list[Task]:
    """What results/ says of the last request's tasks, by x and replicate. Raises Wrong."""
    try:
        return _content(study)
    except (OSError, ValueError, KeyError) as error:
        raise Wrong(f"results/ cannot be read: {type(error).__name__}: {error}") from error


def _content(study: Disturbed) -> list[Task]:
    manifest = json.loads(study.files.read("results/manifest.json"))
    folder = f"results/{manifest.get('stamp', '')}".rstrip("/")
    rows = _rows(study, f"{folder}/replicates.parquet")
    outputs: dict[tuple[int, int], bytes] = {}
    for row in _rows(study, f"{folder}/raw/y.parquet"):
        if outputs.setdefault((row["set"], row["replicate"]), row["bytes"]) is not row["bytes"]:
            raise Wrong(f"y has task {row['set']}/{row['replicate']} twice")
    tasks = [
        Task(
            *(row["param_x"], row["replicate"], row["seed"], row["param_id"], row["status"]),
            outputs.pop((row["set"], row["replicate"]), None),
        )
        for row in rows
    ]
    if outputs:
        raise Wrong(f"y has tasks {sorted(outputs)}, which are not in replicates")
    return sorted(tasks, key=lambda task: (task.x, task.replicate))


def _rows(study: Disturbed, name: str) -> list[dict]:
    return pq.read_table(io.BytesIO(study.files.read(name))).to_pylist()


def check_content(study: Disturbed, spec: str = OWN) -> None:
    """Raise Wrong unless results/ has what the tasks of a study file must come to."""
    found, wanted = content(study), expected(study, spec)
    if found != wanted:
        differing = [pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]]
        raise Wrong(f"{len(found)} tasks, not {len(wanted)}; found and expected: {differing[:5]}")


def check_runs(study: Disturbed) -> None:
    """Raise Wrong if a run ended by an error of its own, or was refused without a reason."""
    for log in study.folder.glob("log-*"):
        if "Traceback" in (text := log.read_text()):
            raise Wrong(f"{log.name} has a traceback\n{text[-3000:]}")
    for run in study.all_runs:
        if run.process.returncode == 1:
            raise Wrong(f"{run.log.name}: an unexpected error\n{run.log.read_text()[-3000:]}")
    for run in study.beside:
        if run.process.returncode == 2 and not _is_refused(run):
            raise Wrong(f"{run.log.name}: refused\n{run.log.read_text()[-3000:]}")


def _is_refused(run: Run) -> bool:
    return any(words in run.log.read_text() for words in REFUSALS)


def check_reasons(study: Disturbed) -> None:
    """Raise Wrong unless tasks that speak out of turn are poisoned for that."""
    if study.conditions.trouble in OUT_OF_TURN_TROUBLES:
        rows = [rows.table.to_pylist() for rows in scan(study.files, ["status", "reason"])]
        reasons = {row["reason"] for table in rows for row in table if row["status"] == "poisoned"}
        if OUT_OF_TURN not in reasons:
            raise Wrong(f"tasks that speak out of turn are poisoned for {sorted(reasons)}")


def check_store(study: Disturbed) -> None:
    """Raise Wrong unless `study verify` and `study status` name the parts that are not the study's own and
    the files that were spoilt, and nothing else, and all is well without them.
    """
    strays = study.torn | _late(study)
    findings = verify(study.url).findings
    about_parts = [finding for finding in findings if finding.code in ("TORN", "FOREIGN")]
    named = {_part(finding) for finding in about_parts if finding.location}
    is_cut_short = any(not finding.location for finding in about_parts)  # "and more of the kind"
    others = [finding for finding in findings if finding.code not in ("TORN", "FOREIGN")]
    if not (named < strays if is_cut_short else named == strays) or others:
        raise Wrong(f"verify finds {findings}; spoilt or foreign are {sorted(strays)}")
    skipped = fold(study.files, read_plan(study.files)).skipped
    passed_over = {f"{m[1]}.parquet" if (m := PART.fullmatch(name)) else name for name in skipped}
    if passed_over != strays:
        raise Wrong(f"status passes over {skipped}; spoilt or foreign are {sorted(strays)}")
    for name in strays & set(study.files.list("parts")):
        study.files.remove(f"parts/{name}")
    left = [finding for finding in verify(study.url).findings if not IN_ITS_PART.search(finding.message)]
    if left:
        raise Wrong(f"verify finds {left} when spoilt and foreign files are moved away")


def _part(finding: object) -> str:
    """The part that a finding is about, by the name of the file that it was written as."""
    inside = IN_ITS_PART.search(finding.message)
    return f"{inside[1]}.parquet" if inside else finding.location.removeprefix("parts/")


def _late(study: Disturbed) -> set[str]:
    """Parts that workers of a study wrote whose store was removed."""
    names = set()
    if study.begun_again:
        uuid = json.loads(study.files.read("study.json"))["uuid"]
        for file in study.part_names():
            try:
                with open_part_file(study.files, file) as part:
                    parts = list_parts(part, file)
            except NotAPart:
                continue
            names |= {f"{part.name}.parquet" for part in parts if part.mark and part.mark.study != uuid}
    return names
