"""From a study to a Diagnosis: run the experiment, judge it, look behind the cause, say what to use.

spec, bundle, a Dask client -> Experiment -> facts -> verdict.judge -> causes -> Diagnosis

The budget holds for all of it. Does not print; `say` hears what is under way.
"""

import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modelops_dask.bundle import Bundle
from modelops_dask.diagnose import advice, causes, confidence
from modelops_dask.diagnose.arms import chosen
from modelops_dask.diagnose.compare import example
from modelops_dask.diagnose.experiment import Experiment
from modelops_dask.diagnose.lab import Lab, OutOfTime
from modelops_dask.diagnose.result import ArmReport, Diagnosis, Evidence, Leak
from modelops_dask.diagnose.runs import Runs
from modelops_dask.diagnose.sample import choose
from modelops_dask.diagnose.tally import Tally
from modelops_dask.diagnose.verdict import SAME, Fact, Row, judge, left_open
from modelops_dask.settings import Settings
from modelops_dask.shape import runners
from modelops_dask.study.batch import WHOLE_PROCESS
from modelops_dask.study.plan import Plan, Request
from modelops_dask.study.spec import Spec

if TYPE_CHECKING:
    from distributed import Client

NOT_TOLD_APART = 0.9  # confidence in a model that differs by itself, when no new environments were compared
INTERVAL = 0.99  # that of growth.Growth


def diagnose(
    client: "Client",
    spec: Spec,
    bundle: Bundle,
    settings: Settings,
    *,
    tasks: int = 24,
    repeats: int = 3,
    arms: Collection[str] = (),
    budget_seconds: float = 600.0,
    seed: int = 0,
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Diagnosis:
    """Find out by experiment which isolation the study's model needs.

    client is one of workers() (lab.py), or of a release of one worker whose executor.type is none. `settings`
    and `threads` (of a worker process) are the study's; what isolates is the arms'. `tasks` of the study are
    run in `repeats` orders; `seed` shuffles them. arms: names of arms.NAMES, all by default. Within
    budget_seconds, and what it takes to end processes, there is a verdict, of what is known by then. Once
    stopped() is true, nothing new is run. Raises BadInput: an arm that there is not, a bundle of which no
    task can be run; ClusterFailed; KeyboardInterrupt when stopped.
    """
    wanted = chosen(arms)
    plan = Plan(spec.entrypoint, spec.table, Request(spec.replicates, ((0, spec.n_sets),)))
    whole = WHOLE_PROCESS in spec.resources
    with Lab(client, budget_seconds, stopped) as lab:
        runs = Runs(
            lab,
            plan,
            bundle,
            settings,
            choose(plan, tasks),
            seed=seed,
            native_threads=threads if whole and threads > 1 else 0,
            runners=1 if whole else runners(threads, settings.subprocess_pool_size),
            say=say,
        )
        experiment = Experiment(runs, wanted, repeats)
        experiment.run()
        return _diagnosis(experiment, spec.path, budget_seconds)


def _diagnosis(experiment: Experiment, spec: Path, budget_seconds: float) -> Diagnosis:
    runs, facts = experiment.runs, experiment.facts()
    row = judge(facts)
    verdict, lines = row.verdict, [*experiment.lines, *_sentences(experiment, row, facts, spec)]
    polluter = sources = leak = None
    changed: tuple[str, ...] = ()
    with suppress(OutOfTime):
        if verdict == "process-reuse":
            runs.say("looking for the tasks that change later results")
            polluter = causes.pollution(runs)
        elif verdict == "model-nondeterministic":
            runs.say("looking for the sources of chance")
            sources = causes.chance(runs)
            if facts["files"]:
                sources = tuple(source for source in sources if source.kind == "files")
        elif verdict == "cached-environment":
            changed = causes.changed(runs)
            lines += [f"In the cached environment, {line}" for line in changed]
    if experiment.growth and experiment.growth.leaks:
        leak = causes.leak(runs, experiment.growth)
    return Diagnosis(
        verdict,
        row.because,
        round(_confidence(experiment, row), 3),
        advice.preset(verdict, facts, experiment.too_big),
        advice.values(
            verdict,
            facts,
            runs.settings.executor_environment,
            max_process_reuse=_reuse(leak, runs.settings) if leak and verdict == "memory" else 0,
            process_bytes=runs.limit_bytes if verdict == "memory" and experiment.too_big else 0,
            writes_environment=any(line.endswith(": added") for line in changed),  # by what ran in it
        ),
        _evidence(runs, row, lines),
        facts,
        polluter,
        sources or (),
        leak,
        left_open(facts),
        tuple(
            _report(
                tally,
                facts["fresh"] if tally is runs.tallies["fresh-venv"] and facts["cold"] else runs.fact(name),
            )
            for name, tally in runs.tallies.items()
        ),
        len(runs.tasks),
        experiment.repeats,
        runs.seed,
        budget_seconds,
        round(runs.lab.elapsed(), 1),
        tuple(runs.observations),
    )


def _reuse(leak: Leak, settings: Settings) -> int:
    """maxProcessReuse that bounds a leak; one that was lower stays."""
    return min(leak.max_process_reuse, settings.max_process_reuse or leak.max_process_reuse)


def _confidence(experiment: Experiment, row: Row) -> float:
    """Of the verdict; 0 for inconclusive."""
    runs, tallies = experiment.runs, experiment.runs.tallies
    cold, single = tallies["cold"], tallies["single-process"]
    if row.verdict == "healthy":
        return min(confidence.of_healthy(tally.compared) for tally in (single, tallies["baseline"]))
    if row.verdict == "inconclusive":
        return 0.0
    if row.facts.get("files"):
        return confidence.of_difference(cold.differing, cold.compared, 0, runs.alone_again.compared)
    if row.verdict == "model-nondeterministic":
        return confidence.MOST if row.facts.get("fresh") else NOT_TOLD_APART
    if row.verdict == "memory":
        if experiment.too_big:
            return confidence.MOST
        lacking = confidence.of_difference(single.lacking, single.tasks, 0, cold.tasks)
        return max(lacking, INTERVAL if experiment.growth and experiment.growth.leaks else 0.0)
    if row.facts.get("fresh") == SAME:  # cold differs from itself, new environments do not
        return confidence.of_difference(cold.differing, cold.compared, 0, runs.fresh_again.compared)
    return runs.sure(_shown(runs, row)[0])


def _shown(runs: Runs, row: Row) -> tuple[str, str]:
    """The two arms whose difference proves a verdict: of those that may, the one that is surest."""
    one, other = row.arms
    instead = {"baseline": "cold-concurrent", "threads": "native-threads"}.get(one, one)
    return max((one, instead), key=lambda name: runs.fact(name) is True and runs.sure(name)), other


def _evidence(runs: Runs, row: Row, lines: list[str]) -> Evidence:
    if not row.arms[0]:
        return Evidence(lines=tuple(lines))
    arm, other = _shown(runs, row)
    anew = arm == other == "fresh-venv" and runs.settings.executor_environment != "image"
    if arm == other == "fresh-venv" and not anew:  # cold shares no environment that changes
        arm = other = "cold"
    tally = runs.fresh_again if anew else runs.tallies[arm]
    expected = runs.fresh if anew else runs.reference
    if tally.first is None:
        return Evidence((arm, other), tally.differing, tally.compared, lines=tuple(lines))
    found = tally.first[1]
    shown = example(causes.task_ref(runs, found.task).task, expected[found.task], found)
    if shown.kind == "rounding":
        lines.append("In the example the numbers differ by rounding only.")
    seen = f"{tally.lanes_differing} of {tally.lanes_compared}"
    return Evidence((arm, other), tally.differing, tally.compared, seen, shown, tuple(lines))


def _sentences(experiment: Experiment, row: Row, facts: dict[str, Fact], spec: Path) -> Iterator[str]:
    """What a person should know beside the verdict."""
    runs, tallies = experiment.runs, experiment.runs.tallies
    failed = next((number for number, one in sorted(runs.reference.items()) if one.status != "ok"), None)
    if failed is not None:
        task, one = causes.task_ref(runs, failed), runs.reference[failed]
        yield (
            f"Task {task.task} ends {one.status} ({one.reason}) also alone in a new process: "
            f"mops-helm study try {shlex.quote(str(spec))} --task {task.task}"
        )
    if row.verdict == "process-reuse":
        cure = {
            False: "isolated-fork gives the same results as cold: it is a cure.",
            True: "isolated-fork differs as well: the model is not safe to fork.",
        }
        if (fork := facts.get("fork")) is not None:
            yield cure[fork]
        if facts.get("concurrency"):
            yield "Besides, processes side by side differ, even with a new one for each task: concurrency."
    if row.verdict == "model-nondeterministic":
        if facts["files"]:
            yield "No preset cures that: a task must not read what another has written (tempfile helps)."
        else:
            yield "No preset cures that: take what is random in the model from its argument `seed`."
    for name, tally in tallies.items():
        if tally.differing and runs.fact(name) is None and not (tally.why or facts["cold"]):
            yield (
                f"{name}: {tally.differing} of {tally.compared} results differed, too few to call "
                f"(confidence {runs.sure(name):.2f})."
            )


def _report(tally: Tally, fact: Fact) -> ArmReport:
    states = {True: "differs", False: "same", None: "cannot be judged" if tally.tasks else "not run"}
    return ArmReport(
        tally.arm.name,
        states[fact],
        tally.why,
        tally.tasks,
        tally.lanes,
        tally.differing,
        round(tally.seconds, 1),
        tally.peak_bytes,
    )
