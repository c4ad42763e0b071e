"""The checks of the campaign notice what its faults would do if nothing withstood them."""

import random

import pytest

from faults import late
from faults.checks import Wrong, check_content, check_reasons, check_store
from faults.disturbed import OTHER, OWN, Conditions, Disturbed
from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.executors.mailbox import Mailbox
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.store import parts
from modelops_dask.store.compact import compact
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.identity import StudyIdentity
from modelops_dask.store.study import begin, read_plan
from modelops_dask.study.batch import Batch, RunContext, execute
from modelops_dask.workers.runtime import Runtime
from store_helpers import attempt


@pytest.fixture
def make_study(tmp_path, monkeypatch):
    """A function: a study that misbehaves in a way, not begun."""
    monkeypatch.setattr("faults.disturbed.REST_SECONDS", 0)

    def make(trouble=""):
        return Disturbed(tmp_path, Conditions("isolated_warm" if trouble else "direct", trouble=trouble))

    return make


def opened(study, file=OWN):
    """Begin a study, as a driver does: its plan, and the source of its batches."""
    bundle = fetch(str(study.bundle), study.folder / "cache")
    plan = begin(study.files, spec.load(study.folder / file), bundle.digest)
    return plan, RunContext(study.files, plan.request, bundle)


def go_on(study, plan, source):
    """Run what is pending, in this process, and write the tables."""
    settings = Settings(
        executor_type=study.conditions.executor,
        executor_environment="image",
        bundles_cache_dir=study.folder / "cache",
        venvs_dir=study.folder / "venvs",
    )
    with executors.create(settings) as executor:
        for number in range(9):  # failed tasks have another try
            if ranges := fold(study.files, plan).pending_ranges():
                died = frozenset(range(plan.absent.size)) if number else frozenset()
                batch = Batch(source, f"own-{number}", tuple(ranges), 600, died)
                execute(batch, Runtime(settings, executor))
    compact(study.files, plan)


@pytest.mark.parametrize("trouble", ["", "raises", "forks", "babbles", "forges"])
def test_a_study_that_nobody_disturbs_is_right(make_study, trouble):
    with make_study(trouble) as study:
        go_on(study, *opened(study))
        check_content(study)
        check_reasons(study)
        check_store(study)


@pytest.mark.parametrize("kind", late.KINDS)
@pytest.mark.parametrize("withstood", [True, False], ids=["withstood", "counted"])
def test_a_late_part_that_counts_is_noticed(make_study, monkeypatch, kind, withstood):
    monkeypatch.setattr(late, "KINDS", (kind,))
    monkeypatch.setattr(late, "STATUSES", ("ok",))
    with make_study() as study:
        plan, source = opened(study)
        assert late.add_late_parts(study, random.Random(0))
        if not withstood:
            monkeypatch.setattr(StudyIdentity, "refusal", lambda *_: "")
            monkeypatch.setattr("modelops_dask.store.fold._wrong_seeds", lambda *_: {})
        go_on(study, plan, source)
        if withstood:
            check_content(study)
            check_store(study)
        else:
            with pytest.raises(Wrong, match="found and expected"):
                check_content(study)
            with pytest.raises(Wrong, match="UNFINISHED"):
                check_store(study)


@pytest.mark.parametrize("kind", late.KINDS)
@pytest.mark.parametrize(
    ("who", "disabled"),
    [
        ("status", ("identity.StudyIdentity.refusal", "fold._wrong_seeds")),
        ("verify", ("verify_parts.Membership.problem", "verify_parts._wrong_seed")),
    ],
    ids=["status", "verify"],
)
def test_a_late_part_that_one_of_the_two_does_not_name_is_noticed(
    make_study, monkeypatch, kind, who, disabled
):
    monkeypatch.setattr(late, "KINDS", (kind,))
    with make_study() as study:
        go_on(study, *opened(study))
        assert late.add_late_parts(study, random.Random(0))
        for name in disabled:
            monkeypatch.setattr(f"modelops_dask.store.{name}", lambda *_: "")
        with pytest.raises(Wrong, match=f"{who} (finds|passes over)"):
            check_store(study)


def test_a_late_part_that_nobody_names_is_noticed(make_study):
    with make_study() as study:
        go_on(study, *opened(study))
        study.torn.add("0.parquet")
        with pytest.raises(Wrong, match="verify finds"):
            check_store(study)


def test_drivers_that_replace_each_others_files_are_noticed(make_study, monkeypatch):
    """As on an object store that ignores conditions: the second driver begins the study anew."""
    with make_study() as study:
        first = opened(study)
        monkeypatch.setattr(Store, "create", lambda files, *file: not files.put(*file))
        second = opened(study)
        go_on(study, *first)
        with pytest.raises(Wrong):
            check_content(study)
        go_on(study, *second)
        with pytest.raises(Wrong, match="FOREIGN"):
            check_store(study)


def test_two_results_of_a_task_are_noticed(make_study):
    with make_study() as study:
        go_on(study, *opened(study))
        parts.write(study.files, [attempt(read_plan(study.files), 3, 1, outputs={"y": b"3:0"})])
        with pytest.raises(Wrong, match="CONFLICT"):
            check_store(study)


def test_the_tasks_of_both_requests_are_checked(make_study):
    with make_study() as study:
        go_on(study, *opened(study))
        study.write(OTHER)
        with pytest.raises(Wrong, match="60 tasks, not 90"):
            check_content(study, OTHER)
        go_on(study, *opened(study, OTHER))
        check_content(study, OTHER)
        check_store(study)


def test_a_forged_answer_that_counts_is_noticed(make_study, monkeypatch):
    def read(mailbox):
        chunk = mailbox._socket.recv(1 << 16)
        mailbox._data += chunk
        return bool(chunk)

    monkeypatch.setattr(Mailbox, "read", read)  # whoever wrote it
    with make_study("forges") as study:
        go_on(study, *opened(study))
        with pytest.raises(Wrong, match="b'forged'"):
            check_content(study)


@pytest.mark.parametrize("trouble", ["forks", "babbles"])
def test_an_answer_out_of_turn_that_is_taken_for_a_result_is_noticed(make_study, trouble):
    with make_study(trouble) as study:
        plan, source = opened(study)
        parts.write(study.files, [attempt(plan, 11, 0, outputs={"y": b"12:7"})])
        go_on(study, plan, source)
        with pytest.raises(Wrong, match="found and expected"):
            check_content(study)


def test_another_cause_of_a_poisoned_task_is_noticed(make_study):
    with make_study("babbles") as study:
        plan, source = opened(study)
        rows = [attempt(plan, x, r, "poisoned", reason="killed") for x in (11, 19) for r in range(2)]
        parts.write(study.files, rows)
        go_on(study, plan, source)
        with pytest.raises(Wrong, match="poisoned for"):
            check_reasons(study)
