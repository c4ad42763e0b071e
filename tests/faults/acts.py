"""The faults of the campaign: what may happen to a run of a study, or to its store, at any moment.

A fault takes the Disturbed study and random numbers of its own, acts, and says whether there was anything to
act on. Those in AT_REST need no run that goes on. Signals go to processes of the study only.
"""

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import fsspec
import psutil

from faults.disturbed import RUN_SECONDS, Disturbed
from faults.drivers import drive_twice, extend_beside
from faults.late import add_late_parts, begin_again
from modelops_dask.store.merge import merge
from modelops_dask.store.parts import list_parts, open_part_file

Fault = Callable[[Disturbed, random.Random], bool]
PAUSE_SECONDS = (0.3, 3.0)


def kill_worker(study: Disturbed, rng: random.Random) -> bool:
    return _kill_one(study, rng, is_worker)


def kill_runner(study: Disturbed, rng: random.Random) -> bool:
    """A runner, a zygote, or a task's own child of one."""
    return _kill_one(study, rng, is_runner)


def kill_scheduler(study: Disturbed, rng: random.Random) -> bool:  # noqa: ARG001
    """Where it is a process of its own."""
    if study.scheduler:
        study.scheduler.kill()
    return study.scheduler is not None


def kill_run(study: Disturbed, rng: random.Random) -> bool:  # noqa: ARG001
    study.run.process.kill()
    return True


def kill_everything(study: Disturbed, rng: random.Random) -> bool:  # noqa: ARG001
    """As when the machine goes."""
    for process in study.alive():
        with suppress(psutil.Error):
            process.kill()
    return True


def interrupt(study: Disturbed, rng: random.Random) -> bool:
    study.run.process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
    return True


def ask_ten_times(study: Disturbed, rng: random.Random) -> bool:
    for _ in range(10):
        study.run.process.send_signal(signal.SIGTERM)
        time.sleep(rng.uniform(0, 0.05))
    return True


def pause_worker(study: Disturbed, rng: random.Random) -> bool:
    """A partition: a worker that nobody hears for a while."""
    chosen = _one(study, rng, is_worker)
    return study.stopped_for(chosen, rng.uniform(*PAUSE_SECONDS))


def pause_scheduler(study: Disturbed, rng: random.Random) -> bool:
    """A partition: a scheduler that nobody hears; within a run it pauses with it."""
    pid = (study.scheduler or study.run.process).pid
    with suppress(psutil.Error):
        return study.stopped_for([psutil.Process(pid)], rng.uniform(*PAUSE_SECONDS))
    return False


def run_twice(study: Disturbed, rng: random.Random) -> bool:
    """The same study is run once more at the same time: here, which is refused, or on another machine."""
    beside = study.launch(rng.choice(["", "-other"]))
    assert study.wait_for_end(beside) in (0, 2, 3, 4, 5), beside.log.read_text()
    return True


def extend(study: Disturbed, rng: random.Random) -> bool:  # noqa: ARG001
    """The study gains replicates; what runs goes on with what it was asked for."""
    study.extended = True
    study.write()
    return True


def fill_disk(study: Disturbed, rng: random.Random) -> bool:
    """The disk of the store is full, until the run ended or somebody made room."""
    if not study.conditions.disk:
        return False
    ballast = study.folder / "out" / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(max(0, file.tell() - rng.choice([0, 0, 4096, 40_960])))
    deadline = time.monotonic() + rng.choice([1, 3, RUN_SECONDS])
    while not study.run.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    ballast.unlink()
    return True


def tear_a_part(study: Disturbed, rng: random.Random) -> bool:
    """A torn checkpoint: the beginning of a part, as a power cut may leave it."""
    names = sorted(set(study.part_names()) - study.torn)
    if not names:
        return False
    name = rng.choice(names)
    with open_part_file(study.files, name) as file:
        study.torn -= {f"{part.name}.parquet" for part in list_parts(file, name)}
    data = study.files.read(f"parts/{name}")
    study.files.put(f"parts/{name}", data[: rng.randrange(len(data))])
    study.torn.add(name)
    return True


def add_foreign_files(study: Disturbed, rng: random.Random) -> bool:  # noqa: ARG001
    for name, data in (("notes.txt", b"somebody's notes"), ("other.parquet", b"no Parquet")):
        study.files.put(f"parts/{name}", data)
        study.torn.add(name)
    return True


def spoil_what_is_derived(study: Disturbed, rng: random.Random) -> bool:
    """Files that may be deleted at any time are deleted, or cut."""
    filesystem, root = fsspec.core.url_to_fs(study.url, use_listings_cache=False)
    spoilt = False
    for path in [f"{root}/driver.json", f"{root}/profile.json", *sorted(filesystem.find(f"{root}/results"))]:
        with suppress(FileNotFoundError):
            data = filesystem.cat_file(path)
            if rng.random() < 0.5:
                filesystem.rm_file(path)
            else:
                filesystem.pipe_file(path, data[: len(data) // 2])
            spoilt = True
    return spoilt


def merge_beside(study: Disturbed, rng: random.Random) -> bool:  # noqa: ARG001
    """Another process merges the parts, however few they are."""
    return merge(study.files, max_files=1) > 0


ON_RUNS: tuple[Fault, ...] = (
    kill_worker,
    kill_runner,
    kill_scheduler,
    kill_run,
    kill_everything,
    interrupt,
    ask_ten_times,
    pause_worker,
    pause_scheduler,
    run_twice,
    drive_twice,
    extend_beside,
    begin_again,
    fill_disk,
)
ON_STORES: tuple[Fault, ...] = (
    extend,
    tear_a_part,
    add_foreign_files,
    add_late_parts,
    spoil_what_is_derived,
    merge_beside,
)
AT_REST: tuple[Fault, ...] = (*ON_STORES, begin_again)


def is_worker(words: list[str]) -> bool:
    return any("spawn_main" in word for word in words)


def is_runner(words: list[str]) -> bool:
    return any(word.endswith(("runner.py", "zygote.py")) for word in words)


def _one(
    study: Disturbed, rng: random.Random, is_wanted: Callable[[list[str]], bool]
) -> list[psutil.Process]:
    found = study.processes(is_wanted)
    return [rng.choice(found)] if found else []


def _kill_one(study: Disturbed, rng: random.Random, is_wanted: Callable[[list[str]], bool]) -> bool:
    chosen = _one(study, rng, is_wanted)
    for process in chosen:
        with suppress(psutil.Error):
            process.kill()
    return bool(chosen)
