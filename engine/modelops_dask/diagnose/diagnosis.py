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
from modelops_dask.diagnose.causes import causes
from modelops_dask.diagnose.result import ArmReport, Diagnosis, Evidence, Leak
from modelops_dask.diagnose.trials.arms import select_arms
from modelops_dask.diagnose.trials.experiment import Experiment
from modelops_dask.diagnose.trials.runs import Runs
from modelops_dask.diagnose.trials.sample import choose_tasks
from modelops_dask.diagnose.trials.workers import OutOfTime, TrialWorkers
from modelops_dask.diagnose.verdict import advice, confidence
from modelops_dask.diagnose.verdict.comparison import find_example
from modelops_dask.diagnose.verdict.tally import Tally
from modelops_dask.diagnose.verdict.verdict import SAME, Fact, VerdictRule, judge, list_open_causes
from modelops_dask.plan.plan import Plan, Request
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.shape import runners
from modelops_dask.study.batch import WHOLE_PROCESS

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
    say: Callable[[str], object] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Diagnosis:
    """Find out by experiment which isolation the study's model needs.

    client is one of workers() (workers.py), or of a release of one worker whose executor.type is none.
    `settings` and `threads` (of a worker process) are the study's; what isolates is the arms'. `tasks` of the
    study are run in `repeats` orders; `seed` shuffles them. arms: names of arms.NAMES, all by default. Within
    budget_seconds, and what it takes to end processes, there is a verdict, of what is known by then. Once
    stopped() is true, nothing new is run. Raises BadInput: an arm that there is not, a bundle of which no
    task can be run; ClusterFailed; KeyboardInterrupt when stopped.
    """
    arm_names = select_arms(arms)
    plan = Plan(spec.entrypoint, spec.table, Request(spec.replicates, ((0, spec.n_sets),)))
    whole = WHOLE_PROCESS in spec.resources
    with TrialWorkers(client, budget_seconds, stopped) as workers:
        runs = Runs(
            workers,
            plan,
            bundle,
            settings,
            choose_tasks(plan, tasks),
            seed=seed,
            native_threads=threads if whole and threads > 1 else 0,
            runners=1 if whole else runners(threads, settings.subprocess_pool_size),
            say=say,
        )
        experiment = Experiment(runs, arm_names, repeats)
        experiment.run()
        return _conclude(experiment, spec.path, budget_seconds)


def _conclude(experiment: Experiment, spec: Path, budget_seconds: float) -> Diagnosis:
    runs, facts = experiment.runs, experiment.collect_facts()
    row = judge(facts)
    verdict, lines = row.verdict, [*experiment.lines, *_describe_findings(experiment, row, facts, spec)]
    polluter = sources = leak = None
    changed: tuple[str, ...] = ()
    with suppress(OutOfTime):
        if verdict == "process-reuse":
            runs.say("looking for the tasks that change later results")
            polluter = causes.find_pollution(runs)
        elif verdict == "model-nondeterministic":
            runs.say("looking for the sources of chance")
            sources = causes.find_sources(runs)
            if facts["files"]:
                sources = tuple(source for source in sources if source.kind == "files")
        elif verdict == "cached-environment":
            changed = causes.find_changed_files(runs)
            lines += [f"In the cached environment, {line}" for line in changed]
    if experiment.growth and experiment.growth.leaks:
        leak = causes.describe_leak(runs, experiment.growth)
    is_memory = verdict == "memory"
    return Diagnosis(
        verdict=verdict,
        because=row.because,
        confidence=round(_compute_confidence(experiment, row), 3),
        preset=advice.recommend_preset(verdict, facts, experiment.too_big),
        values=advice.recommend_values(
            verdict,
            facts,
            runs.settings.executor_environment,
            max_process_reuse=_limit_process_reuse(leak, runs.settings) if leak and is_memory else 0,
            process_bytes=runs.limit_bytes if is_memory and experiment.too_big else 0,
            writes_environment=any(line.endswith(": added") for line in changed),  # by what ran in it
        ),
        evidence=_collect_evidence(runs, row, lines),
        facts=facts,
        polluter=polluter,
        sources=sources or (),
        memory=leak,
        not_excluded=list_open_causes(facts),
        arms=_report_arms(runs, facts),
        tasks=len(runs.tasks),
        orders=experiment.repeats,
        seed=runs.seed,
        budget_seconds=budget_seconds,
        seconds=round(runs.workers.elapsed_seconds(), 1),
        observations=tuple(runs.observations),
    )


def _limit_process_reuse(leak: Leak, settings: Settings) -> int:
    """maxProcessReuse that bounds a leak; one that was lower stays."""
    return min(leak.max_process_reuse, settings.max_process_reuse or leak.max_process_reuse)


def _compute_confidence(experiment: Experiment, row: VerdictRule) -> float:
    """The confidence of the verdict; 0 for inconclusive."""
    runs, tallies = experiment.runs, experiment.runs.tallies
    cold, single = tallies["cold"], tallies["single-process"]
    if row.verdict == "healthy":
        return min(confidence.of_healthy(tally.n_compared) for tally in (single, tallies["baseline"]))
    if row.verdict == "inconclusive":
        return 0.0
    if row.facts.get("files"):
        return confidence.of_difference(cold.n_differing, cold.n_compared, 0, runs.alone_tally.n_compared)
    if row.verdict == "model-nondeterministic":
        return confidence.MOST if row.facts.get("fresh") else NOT_TOLD_APART
    if row.verdict == "memory":
        if experiment.too_big:
            return confidence.MOST
        out_of_memory = confidence.of_difference(single.n_out_of_memory, single.n_tasks, 0, cold.n_tasks)
        return max(out_of_memory, INTERVAL if experiment.growth and experiment.growth.leaks else 0.0)
    if row.facts.get("fresh") == SAME:  # cold differs from itself, new environments do not
        return confidence.of_difference(cold.n_differing, cold.n_compared, 0, runs.fresh_tally.n_compared)
    return runs.confidence_of(_select_proof_arms(runs, row)[0])


def _select_proof_arms(runs: Runs, row: VerdictRule) -> tuple[str, str]:
    """The two arms whose difference proves a verdict: of those that may, the one that is surest."""
    arm, control = row.arms
    substitute = {"baseline": "cold-concurrent", "threads": "native-threads"}.get(arm, arm)

    def certainty(name: str) -> float:
        return runs.confidence_of(name) if runs.judge_arm(name) is True else 0.0

    return max((arm, substitute), key=certainty), control


def _collect_evidence(runs: Runs, row: VerdictRule, lines: list[str]) -> Evidence:
    if not row.arms[0]:
        return Evidence(lines=tuple(lines))
    arm, control = _select_proof_arms(runs, row)
    anew = arm == control == "fresh-venv" and runs.settings.executor_environment != "image"
    if arm == control == "fresh-venv" and not anew:  # cold shares no environment that changes
        arm = control = "cold"
    tally = runs.fresh_tally if anew else runs.tallies[arm]
    expected = runs.fresh if anew else runs.reference
    if tally.first is None:
        return Evidence(
            arms=(arm, control), differing=tally.n_differing, compared=tally.n_compared, lines=tuple(lines)
        )
    task_run = tally.first[1]
    example = find_example(causes.make_task_ref(runs, task_run.task).task, expected[task_run.task], task_run)
    if example.kind == "rounding":
        lines.append("In the example the numbers differ by rounding only.")
    return Evidence(
        arms=(arm, control),
        differing=tally.n_differing,
        compared=tally.n_compared,
        seen=f"{tally.n_lanes_differing} of {tally.n_lanes_compared}",
        example=example,
        lines=tuple(lines),
    )


def _describe_findings(
    experiment: Experiment, row: VerdictRule, facts: dict[str, Fact], spec: Path
) -> Iterator[str]:
    """What a person should know beside the verdict."""
    runs, tallies = experiment.runs, experiment.runs.tallies
    failures = [(task, task_run) for task, task_run in runs.reference.items() if task_run.status != "ok"]
    if failures:
        number, task_run = min(failures, key=lambda failure: failure[0])
        task = causes.make_task_ref(runs, number)
        yield (
            f"Task {task.task} ends {task_run.status} ({task_run.reason}) also alone in a new process: "
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
        if tally.n_differing and runs.judge_arm(name) is None and not (tally.skip_reason or facts["cold"]):
            yield (
                f"{name}: {tally.n_differing} of {tally.n_compared} results differed, too few to call "
                f"(confidence {runs.confidence_of(name):.2f})."
            )


def _report_arms(runs: Runs, facts: dict[str, Fact]) -> tuple[ArmReport, ...]:
    arm_facts = {name: runs.judge_arm(name) for name in runs.tallies}
    if facts["cold"]:
        arm_facts["fresh-venv"] = facts["fresh"]
    return tuple(_report_arm(tally, arm_facts[name]) for name, tally in runs.tallies.items())


def _report_arm(tally: Tally, fact: Fact) -> ArmReport:
    states = {True: "differs", False: "same", None: "cannot be judged" if tally.n_tasks else "not run"}
    return ArmReport(
        arm=tally.arm.name,
        state=states[fact],
        why=tally.skip_reason,
        tasks=tally.n_tasks,
        lanes=tally.n_lanes,
        differing=tally.n_differing,
        seconds=round(tally.seconds, 1),
        peak_bytes=tally.peak_bytes,
    )
