"""Executor isolated_fork: what its tasks share, what happens to its children, and when it does without."""

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executor_helpers import FAULTS, is_gone, settings, task, write_bundle
from helpers import wait_for
from modelops_dask import bundle, executors

SIR = Path(__file__).parents[2] / "examples" / "sir"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def chosen(folder):
    return settings(folder, executor_type="isolated_fork", task_timeout_seconds=60)


@pytest.fixture
def executor(chosen):
    with executors.create(chosen) as running:
        yield running


def hanging(executor, threads, one):
    """(what the task will come to, its zygote), once the model hangs."""
    outcome = threads.submit(executor.run, one)
    zygote = wait_for(executor.busy, "busy zygote")[0]
    wait_for(lambda: "hanging" in zygote.log, "word from the model")
    return outcome, zygote


def test_results_are_those_of_a_new_interpreter_in_any_order(folder):
    """The same bytes for (params, seed) in cold, forked and warm processes, with a model that uses NumPy."""
    order_seed = random.randrange(1 << 32)
    print("order seed", order_seed)
    runs = {}
    for kind in ("cold", "isolated_fork", "isolated_warm"):
        chosen = settings(folder, executor_type=kind, executor_environment="image")
        source = bundle.fetch(str(SIR), chosen.bundles_cache_dir)
        seeds = [1, 2, 2**63]
        if kind != "cold":
            seeds = random.Random(order_seed).sample(seeds * 3, 9)
        with executors.create(chosen) as executor:
            for seed in seeds:
                one = executors.Task(
                    source, "models.sir.simulate/lockdown", {"r0": 2.5, "infectious_days": 5}, seed
                )
                outcome = executor.run(one)
                assert outcome.status == "ok", outcome
                assert runs.setdefault(seed, outcome.outputs) == outcome.outputs, kind
            assert kind != "isolated_fork" or len(executor.idle()) == 1, "it fell back to new interpreters"
    assert len({outputs["incidence"] for outputs in runs.values()}) == 3


def test_a_killed_child_costs_one_task_and_not_its_zygote(executor, chosen, tmp_path):
    pid_file = tmp_path / "pid"
    with ThreadPoolExecutor(1) as threads:
        outcome, zygote = hanging(executor, threads, task(FAULTS, chosen, "hang", pid_file=str(pid_file)))
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        assert outcome.result(timeout=20).reason == "killed by signal 9"
    assert executor.run(task(FAULTS, chosen)).status == "ok"
    assert [idle.pid for idle in executor.idle()] == [zygote.pid]


def test_a_killed_zygote_takes_its_child_along(executor, chosen, tmp_path):
    pid_file = tmp_path / "pid"
    with ThreadPoolExecutor(1) as threads:
        outcome, zygote = hanging(
            executor, threads, task(FAULTS, chosen, "hang_deaf", pid_file=str(pid_file))
        )
        os.kill(zygote.pid, signal.SIGKILL)
        assert outcome.result(timeout=20).reason == "killed by signal 9"
    wait_for(lambda: is_gone(int(pid_file.read_text())), "end of the child")
    assert executor.run(task(FAULTS, chosen)).status == "ok"


def test_a_spare_child_killed_while_idle_costs_nothing(executor, chosen):
    for _ in range(2):  # the first task warms the zygote; with the second it has a spare child
        executor.run(task(FAULTS, chosen))
    (zygote,) = executor.idle()
    children = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children")
    (spare,) = wait_for(lambda: len(pids := children.read_text().split()) == 1 and pids, "one spare child")
    os.kill(int(spare), signal.SIGKILL)
    wait_for(lambda: is_gone(int(spare)), "end of the spare child")
    assert executor.run(task(FAULTS, chosen)).status == "ok"
    assert executor.idle() == [zygote]


@pytest.mark.parametrize("fault", ["hang", "hang_deaf"])
def test_a_task_that_takes_too_long_does_not_cost_its_zygote(folder, tmp_path, fault):
    chosen = settings(folder, executor_type="isolated_fork", task_timeout_seconds=1)
    pid_file = tmp_path / "pid"
    with executors.create(chosen) as executor:
        executor.run(task(FAULTS, chosen))
        (zygote,) = executor.idle()
        outcome = executor.run(task(FAULTS, chosen, fault, pid_file=str(pid_file)))
        assert (outcome.status, outcome.reason, outcome.log) == ("died", "TaskTimeout", "hanging\n")
        assert outcome.error == "the task did not end within 1 s"
        assert is_gone(int(pid_file.read_text()))
        assert executor.run(task(FAULTS, chosen)).status == "ok"
        assert executor.idle() == [zygote]


def test_a_zygote_keeps_nothing_of_its_children(executor, chosen):
    faults = ["ok", "raises", "os_exit", "echo", "closes_everything", "c_exit", "sys_exit"]
    executor.run(task(FAULTS, chosen))
    (zygote,) = executor.idle()

    def children() -> str:
        return Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text()

    def open_files() -> int:
        return len(list(Path(f"/proc/{zygote.pid}/fd").iterdir()))

    before = open_files()
    for number in range(100):
        executor.run(task(FAULTS, chosen, faults[number % len(faults)]))
    assert executor.idle() == [zygote]
    wait_for(
        lambda: len(children().split()) == 1 and open_files() <= before + 2, "end of all but the spare child"
    )


DESCRIPTORS = """
import os

def wire(entrypoint, params, seed):
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # some get numbers that the zygote uses
    pid = os.fork()
    if pid == 0:
        try:
            for file in files:
                os.fstat(file)
            os._exit(0)
        finally:
            os._exit(1)
    return {"out": str(os.waitpid(pid, 0)[1])}
"""


def test_what_a_task_opens_is_open_in_its_own_children(chosen, folder, executor):
    source = write_bundle(folder / "forks", {"wire.py": DESCRIPTORS})
    assert executor.run(task(source, chosen)).outputs == {"out": b"0"}


def test_the_peak_of_a_task_leaves_out_what_it_shares(executor, chosen):
    small, large, after = (
        executor.run(task(FAULTS, chosen, "allocates", mib=mib)).peak_bytes >> 20 for mib in (1, 200, 1)
    )
    assert 195 <= large < 220  # what the import left is not all touched again
    assert small < 10
    assert after < 10


def test_large_outputs_arrive_whole(executor, chosen, tmp_path):
    source = write_bundle(
        tmp_path / "large",
        {"wire.py": "import random\ndef wire(e, p, s):\n    return {'out': random.randbytes(30 << 20)}\n"},
    )
    outcome = executor.run(task(source, chosen, seed=5))
    assert outcome.outputs["out"] == random.Random(5).randbytes(30 << 20)


def test_what_the_import_started_outlives_the_tasks(executor, chosen, tmp_path):
    source = write_bundle(
        tmp_path / "serving",
        {
            "wire.py": "import subprocess\n"
            "SERVER = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
            "def wire(e, p, s):\n    return {'out': str(SERVER.pid)}\n"
        },
    )
    (server,) = {int(executor.run(task(source, chosen)).outputs["out"]) for _ in range(3)}
    assert not is_gone(server)
    zygote = executor.idle()[0].pid
    os.kill(zygote, signal.SIGKILL)
    wait_for(lambda: is_gone(zygote), "end of the zygote")
    assert executor.run(task(source, chosen)).status == "ok"
    wait_for(lambda: is_gone(server), "end of what the model started")


def test_prepare_runs_in_the_zygote_once(executor, chosen, tmp_path):
    source = write_bundle(
        tmp_path / "prepared",
        {
            "wire.py": "import os\nDONE = []\ndef prepare():\n    DONE.append(os.getpid())\n"
            "def wire(e, p, s):\n    return {'out': repr(DONE)}\n"
        },
    )
    seen = [executor.run(task(source, chosen)).outputs["out"] for _ in range(3)]
    assert seen == [f"[{executor.idle()[0].pid}]".encode()] * 3


def test_what_the_first_task_imported_the_zygote_imports(executor, chosen, tmp_path):
    site = write_bundle(tmp_path / "site", {"part.py": "import os\nPID = os.getpid()\n"})
    text = (
        f"import sys\nsys.path.append({str(site)!r})\n"
        "def wire(e, p, s):\n    import part\n    return {'out': str(part.PID)}\n"
    )
    source = write_bundle(tmp_path / "lazy", {"wire.py": text})
    first, second, third = (int(executor.run(task(source, chosen)).outputs["out"]) for _ in range(3))
    (zygote,) = executor.idle()
    assert first != zygote.pid
    assert second == third == zygote.pid


OWN_MODULES = {  # what a task imports from the bundle is imported in that task
    "one that changes another": {
        "wire.py": "import model\ndef wire(e, p, s):\n    if p['a'] == 1:\n        import vaccinated\n"
        "    return {'out': str(model.rate())}\n",
        "model.py": "def rate():\n    return 1.0\n",
        "vaccinated.py": "import model\nmodel.rate = lambda: 0.1\n",
    },
    "one that draws": {
        "wire.py": "import random\ndef wire(e, p, s):\n    from src import lazy\n"
        "    return {'out': str(random.random())}\n",
        "src/lazy.py": "import random\nX = random.random()\n",
    },
    "one that is written first": {
        "wire.py": "from pathlib import Path\ndef wire(e, p, s):\n"
        "    (Path(__file__).parent / 'config.py').write_text(f'VALUE = {p[\"a\"]}' + ' ' * p['a'])\n"
        "    import config\n    return {'out': str(config.VALUE)}\n",
        "config.py": "VALUE = 0\n",
    },
}


@pytest.mark.parametrize("files", OWN_MODULES.values(), ids=OWN_MODULES)
def test_a_module_of_the_bundle_is_imported_by_the_tasks_that_import_it(folder, tmp_path, files):
    source = write_bundle(tmp_path / "lazy", files)
    assert_same_as_cold(folder, source)


def assert_same_as_cold(folder, source, forks=True):
    """That tasks have the outputs of new interpreters; forks says whether they are forked."""
    outputs = {}
    for kind in ("cold", "isolated_fork"):
        chosen = settings(folder, executor_type=kind, task_timeout_seconds=20)
        with executors.create(chosen) as executor:
            outcomes = [executor.run(task(source, chosen, seed=7, a=a)) for a in (1, 2, 1, 3)]
            assert [outcome.status for outcome in outcomes] == ["ok"] * 4, outcomes
            if kind == "isolated_fork":
                assert len(executor.idle()) == forks, outcomes[0].fallback
        outputs[kind] = [dict(outcome.outputs) for outcome in outcomes]
    assert outputs["isolated_fork"] == outputs["cold"]
    return outcomes


OPEN_FILES = {  # what the import does, what a task returns
    "a file that is read": ("F = open('rates.txt')", "F.readline()"),
    "a file that is read on": ("F = open('rates.txt')\nF.readline()", "F.readline() + F.readline()"),
    "two that have one position": (
        "import os\nF = os.open('rates.txt', os.O_RDONLY)\nG = os.dup(F)\nos.read(F, 2)",
        "(os.read(F, 3) + os.read(G, 3)).decode()",
    ),
    "a file that is deleted": (
        "import os\nF = open('rates.txt')\nos.unlink('rates.txt')",
        "F.readline() + str(os.path.exists('rates.txt'))",
    ),
    "a log": (
        "import logging\nlogging.basicConfig(filename='run.log', format='%(message)s')",
        "[logging.warning('%s', p['a']), open('run.log').read()][1]",
    ),
    "a temporary file": (
        "import tempfile\nT = tempfile.NamedTemporaryFile('w+')",
        "[T.write(f\"{p['a']}\\n\"), T.flush(), open(T.name).read()][2]",
    ),
    "a file that is replaced": (
        "import os\nF = open('run.txt', 'w+')\nF.write('begin')\nF.flush()",
        "[F.write(str(p['a'])), F.flush(), os.rename('run.txt', 'old'), open('run.txt', 'w').write('x'), "
        "open('old').read(), os.fstat(F.fileno()).st_ino == os.stat('old').st_ino].__repr__()",
    ),
    "a file that is mapped": (
        "import mmap\nwith open('rates.txt') as F:\n    M = mmap.mmap(F.fileno(), 0, prot=mmap.PROT_READ)",
        "[M[:6].decode(), open('rates.txt', 'w').write('other 1\\nother 2\\nother 3\\n')][0]",
    ),
    "a semaphore": (
        "import multiprocessing\nL = multiprocessing.get_context('fork').Semaphore(1)",
        "str(L.acquire(block=False))",
    ),
}
RATES = "".join(f"line {number}\n" for number in range(3))
USES = "{import_time}\ndef wire(e, p, s):\n    return {{'out': {result}}}\n"


@pytest.mark.parametrize(("import_time", "result"), OPEN_FILES.values(), ids=OPEN_FILES)
def test_what_the_import_left_open_is_each_tasks_own(folder, tmp_path, import_time, result):
    text = USES.format(import_time=import_time, result=result)
    assert_same_as_cold(folder, write_bundle(tmp_path / "opens", {"wire.py": text, "rates.txt": RATES}))


def test_a_file_that_is_open_is_each_tasks_own_where_tasks_share_files(folder, tmp_path):
    text = USES.format(import_time="F = open('rates.txt')", result="F.readline()")
    source = write_bundle(tmp_path / "opens", {"wire.py": text, "rates.txt": RATES})
    chosen = settings(folder, executor_type="isolated_fork", private_files=False)
    with executors.create(chosen) as executor:
        lines = [executor.run(task(source, chosen)).outputs["out"] for _ in range(3)]
        assert len(executor.idle()) == 1
    assert lines == [b"line 0\n"] * 3


SHARED = {  # what the import does, what a task returns, why forking is unsafe
    "an anonymous map": (
        "import mmap\nM = mmap.mmap(-1, 4096)",
        "[M.write_byte(M[0] + 1), str(M[0])][1]",
        "left memory that its tasks would share: anonymous",
    ),
    "a value of multiprocessing": (
        "import multiprocessing\nV = multiprocessing.Value('i', 0)",
        "[setattr(V, 'value', V.value + 1), str(V.value)][1]",
        "left memory that its tasks would share: /",
    ),
    "a mapped file": (
        "import mmap\nF = open('rates.txt', 'r+b')\nM = mmap.mmap(F.fileno(), 0)",
        "[M.write(b'X'), M[:4].decode()][1]",
        "rates.txt",
    ),
    "a file without a name": (
        "import tempfile\nT = tempfile.TemporaryFile('w+')",
        "[T.write('x'), T.flush(), str(T.tell())][2]",
        "left a file open for writing whose content is not restored: /",
    ),
    "a locked file": (
        "import fcntl\nF = open('run.lock', 'w')\nfcntl.flock(F, fcntl.LOCK_EX)",
        "str(fcntl.flock(F, fcntl.LOCK_EX | fcntl.LOCK_NB))",
        "left a file with a lock on it: /",
    ),
}


@pytest.mark.parametrize(("import_time", "result", "why"), SHARED.values(), ids=SHARED)
def test_where_tasks_would_share_what_the_import_left_they_get_new_interpreters(
    folder, tmp_path, import_time, result, why
):
    text = USES.format(import_time=import_time, result=result)
    source = write_bundle(tmp_path / "shares", {"wire.py": text, "rates.txt": RATES})
    outcomes = assert_same_as_cold(folder, source, forks=False)
    assert all(why in outcome.fallback for outcome in outcomes), outcomes[0].fallback


def test_a_task_without_a_seed_for_it_still_draws_anew(folder):
    """With seeding off, NumPy's global state must not be the same in all children of a zygote."""
    chosen = settings(folder, executor_type="isolated_fork", executor_environment="image", seed_globals=False)
    source = write_bundle(
        folder / "draws",
        {"wire.py": "import numpy\ndef wire(e, p, s):\n    return {'out': numpy.random.bytes(8)}\n"},
    )
    with executors.create(chosen) as executor:
        assert len({executor.run(task(source, chosen)).outputs["out"] for _ in range(3)}) == 3


COUNTS = """
import os, threading
PID, DONE = os.getpid(), []
{import_time}
def wire(e, p, s):
    DONE.append(1)
    {task_time}
    return {{"forked": str(os.getpid() != PID), "before": str(len(DONE) - 1)}}
"""


@pytest.mark.parametrize(
    ("import_time", "task_time", "said"),
    [
        (
            "threading.Thread(target=threading.Event().wait, name='ticker', daemon=True).start()",
            "",
            "left threads running: ticker of threading",
        ),
        ("", "if os.getpid() != PID: os.abort()", "killed by signal 6 in a child, and not in a new"),
    ],
    ids=["a thread", "a crash in children only"],
)
def test_where_forking_is_unsafe_tasks_get_new_interpreters(
    executor, chosen, tmp_path, caplog, import_time, task_time, said
):
    text = COUNTS.format(import_time=import_time, task_time=task_time)
    source = write_bundle(tmp_path / "unsafe", {"wire.py": text})
    for _ in range(3):
        outcome = executor.run(task(source, chosen))
        assert outcome.outputs == {"forked": b"False", "before": b"0"}, outcome
    assert executor.idle() == []
    assert caplog.text.count("forking is unsafe") == 1
    assert said in caplog.text
    assert executor.run(task(FAULTS, chosen)).status == "ok"
    assert len(executor.idle()) == 1, "another bundle is forked all the same"


def test_a_thread_of_a_module_that_a_task_imports_is_noticed(executor, chosen, tmp_path, caplog):
    ticking = (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='late', daemon=True).start()\n"
    )
    site = write_bundle(tmp_path / "site", {"ticking.py": ticking})
    path = f"import sys; sys.path.append({str(site)!r})"
    source = write_bundle(
        tmp_path / "late", {"wire.py": COUNTS.format(import_time=path, task_time="import ticking")}
    )
    forked = [executor.run(task(source, chosen)).outputs["forked"] for _ in range(3)]
    assert forked == [b"True", b"False", b"False"]
    assert caplog.text.count("left threads running: late of threading") == 1


def test_a_model_that_crashes_anywhere_is_still_forked(executor, chosen, caplog):
    for _ in range(2):
        assert executor.run(task(FAULTS, chosen, "crash")).reason == "killed by signal 11"
    assert len(executor.idle()) == 1
    assert "unsafe" not in caplog.text


def test_where_the_platform_cannot_fork_safely_it_is_cold(folder, monkeypatch, caplog):
    monkeypatch.setattr("modelops_dask.executors.sys.platform", "darwin")
    chosen = settings(folder, executor_type="isolated_fork")
    with executors.create(chosen) as executor:
        pids = {executor.run(task(FAULTS, chosen, "state")).outputs["pid"] for _ in range(2)}
        assert executor.idle() == []
    assert len(pids) == 2
    assert "forking is unsafe on darwin; using executor=cold instead" in caplog.text
