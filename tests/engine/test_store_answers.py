"""Object stores that refuse in other words, lose answers or ignore the condition of a PUT: of two writers one
still wins, and a store that does not keep this is refused.
"""

import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelops_dask.store import claim, exclusive, parts
from modelops_dask.store.compact import compact
from modelops_dask.store.files import PROBE, NotExclusive, Store, StoreFailed
from modelops_dask.store.results import results
from modelops_dask.store.study import read_plan
from modelops_dask.store.verify import verify
from store_helpers import attempt, begin, tree
from store_servers import Fault, Proxy, Request, conditional_put, reached
from study_helpers import SMALL, mops_helm, write_spec

CONFLICT = (409, "ConditionalRequestConflict")
ERROR = (500, "InternalError")
FAULTS = {
    "a conflict": Fault(applied=False, answer=CONFLICT),
    "a conflict of a PUT that was done": Fault(applied=True, answer=CONFLICT),
    "an error before the PUT": Fault(applied=False, answer=ERROR),
    "an error after the PUT": Fault(applied=True, answer=ERROR),
    "a refusal of a PUT that was done": Fault(applied=True, answer=(412, "PreconditionFailed")),
    "bad words": Fault(applied=False, answer=(400, "InvalidArgument")),
    "a code that nobody knows": Fault(applied=True, answer=(418, "Teapot")),
    "a cut connection": Fault(applied=False, answer=None),
    "a cut connection after the PUT": Fault(applied=True, answer=None),
    "an error, and the PUT is done later": Fault(applied=True, answer=ERROR, later_seconds=0.15),
    "a conflict, and the PUT is done later": Fault(applied=True, answer=CONFLICT, later_seconds=0.15),
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(exclusive, "_PAUSES_SECONDS", (0.05, 0.1, 0.2, 0.4))


@pytest.fixture
def proxy(s3_server):
    with Proxy(s3_server, bare_412=True) as proxy:
        yield proxy


@pytest.fixture
def files(proxy, monkeypatch):
    """A store behind the proxy."""
    with reached(proxy.address, monkeypatch) as url:
        yield Store(url)


def test_a_refusal_without_its_condition_is_a_refusal(files):
    assert files.create("x", b"first")
    assert not files.create("x", b"second")
    assert files.read("x") == b"first"


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_written_is_ours_whatever_the_answer(files, proxy, fault):
    proxy.rule = conditional_put(FAULTS[fault])
    assert files.create("alone", b"mine") and files.read("alone") == b"mine"
    proxy.rule = lambda _: None
    assert not files.create("alone", b"of another") and files.read("alone") == b"mine"


@pytest.mark.parametrize("seed", range(3))
def test_of_many_writers_one_wins_whatever_the_answers(files, proxy, seed):
    print("seed", seed)
    rng, lock = random.Random(seed), threading.Lock()

    def rule(request: Request) -> Fault | None:
        with lock:
            erring = request.conditional and request.count < 12 and rng.random() < 0.5
            return rng.choice(list(FAULTS.values())) if erring else None

    proxy.rule = rule
    for turn in range(6):
        with ThreadPoolExecutor(6) as threads:
            won = list(threads.map(lambda i, name=f"a/{turn}": files.create(name, b"%d" % i), range(6)))
        assert won.count(True) == 1, won
        assert files.read(f"a/{turn}") == b"%d" % won.index(True)


def test_a_store_that_always_errs_is_given_up(files, proxy):
    proxy.rule = conditional_put(Fault(applied=False, answer=CONFLICT), times=1000)
    with pytest.raises(StoreFailed, match=r"/x: .*by the proxy"):
        files.create("x", b"1")
    assert proxy.counts["PUT", next(path for _, path in proxy.counts if path.endswith("/x"))] == 5


def test_a_store_that_forbids_is_not_asked_again(files, proxy):
    proxy.rule = conditional_put(Fault(applied=False, answer=(403, "AccessDenied")), times=1000)
    with pytest.raises(StoreFailed, match="by the proxy"):
        files.create("x", b"1")
    assert proxy.requests["PUT"] == 1


def test_two_that_claim_at_once_with_the_same_words(files, proxy):
    """Of two equal contents nobody could tell whose is there."""
    proxy.rule = conditional_put(FAULTS["a conflict of a PUT that was done"])
    gate = threading.Barrier(4)

    def work(number):
        with claim.hold_claim(files, f"chunk {number}") as mine:
            gate.wait(timeout=30)
            return mine

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))).count(True) == 1


def test_a_study_begins_and_goes_on(files, proxy, tmp_path):
    proxy.rule = conditional_put(FAULTS["a cut connection after the PUT"])
    plan = begin(files, tmp_path)
    assert begin(files, tmp_path).n_tasks == plan.n_tasks == read_plan(Store(files.url)).n_tasks
    wider = begin(files, tmp_path, sets="[{a: 1}, {a: 2}, {a: 3}, {a: 4}]")
    assert wider.n_sets == 4 and files.list("sets") == ["000000.parquet", "000001.parquet"]


def test_a_store_is_probed_with_few_requests_and_no_right_to_delete(files, proxy):
    proxy.rule = lambda request: Fault(False, (403, "AccessDenied")) if request.method == "DELETE" else None
    for requests in (4, 3):  # a PUT that is done, one that is refused, a look (HEAD, GET); then all but one
        proxy.requests.clear()
        files.require_exclusive()
        assert proxy.requests.total() == requests
    assert list(tree(files)) == [PROBE] and files.list("") == []


def test_a_store_that_ignores_the_condition_is_refused_for_writing(files, proxy, tmp_path):
    plan = begin(files, tmp_path)
    parts.write(files, [attempt(plan, t.set, t.replicate) for t in plan.tasks([(0, plan.absent.size)])])
    compact(files, plan)
    proxy.ignores_condition = True
    before = tree(files)
    with pytest.raises(NotExclusive, match=r"cannot be written.*If-None-Match") as caught:
        begin(files, tmp_path, sets="[{a: 7}]")
    assert caught.value.exit_code == 2
    del before[PROBE]
    assert {name: data for name, data in tree(files).items() if name != PROBE} == before
    assert results(files, "raw").num_rows == 12 and verify(files.url).findings == []
    assert verify(files.url).tasks["ok"] == 12


def test_the_command_says_why_and_reads_what_is_there(files, proxy, tmp_path):
    proxy.ignores_condition = True
    spec = write_spec(tmp_path, n=2)
    done = mops_helm("study", "run", spec, *SMALL, "--store", files.url, cwd=tmp_path)
    assert done.returncode == 2 and "replace each other's files" in done.stderr, done.stderr
    assert [name for name in tree(files) if not name.startswith(".")] == []


def test_a_kind_of_store_without_conditions_is_refused(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def pipe_file(self, path, value):
        """Of a file system that does not know `mode`."""

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    with pytest.raises(NotExclusive, match="conditional writes"):
        Store(f"memory://{uuid.uuid4().hex}").require_exclusive()
