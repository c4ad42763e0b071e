"""From a study to a Diagnosis: run the experiment, judge it, explain the cause, recommend a preset.

spec, bundle, a Dask client -> Experiment -> facts -> verdict.judge -> causes -> Diagnosis

The budget covers all of it. Nothing is printed; `say` receives progress messages.
"""

import math
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelops_dask.bundle import Bundle
from modelops_dask.diagnose.causes import causes
from modelops_dask.diagnose.result import ArmReport, Diagnosis, Evidence, Leak
from modelops_dask.diagnose.trials.arms import select_arms
from modelops_dask.diagnose.trials.coverage import confidence_of_healthy
from modelops_dask.diagnose.trials.experiment import Experiment
from modelops_dask.diagnose.trials.runs import Runs
from modelops_dask.diagnose.trials.sample import choose_tasks, list_uncovered
from modelops_dask.diagnose.trials.workers import OutOfTime, TrialWorkers
from modelops_dask.diagnose.verdict import advice, confidence
from modelops_dask.diagnose.verdict.comparison import find_example
from modelops_dask.diagnose.verdict.seed_use import describe_part
from modelops_dask.diagnose.verdict.tally import Tally
from modelops_dask.diagnose.verdict.verdict import SAME, Fact, VerdictRule, judge, list_open_causes
from modelops_dask.plan.plan import Plan
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.shape import runners
from modelops_dask.study.batch import WHOLE_PROCESS
from modelops_dask.study.commands import check_program

if TYPE_CHECKING:
    from distributed import Client

NOT_TOLD_APART = 0.9  # confidence in a nondeterministic model if no new environments were compared
INTERVAL = 0.99  # that of growth.Growth
SHOWN_UNCOVERED = 5
SHOWN_PARTS = 3
WIDE = 200  # tasks for two orders in one process: two starts, for any number of tasks


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

    Within budget_seconds, plus the time to end processes, there is a verdict from the facts known by then.
    Once stopped() is true, nothing new is run.

    Args:
        client: One of workers() (workers.py), or of a release of one worker whose executor.type is none.
        settings: Of the study; the arms set the isolation.
        threads: Of a worker process.
        tasks: The number of the study's tasks to run.
        repeats: The number of orders.
        seed: Shuffles the orders.
        arms: Names of arms.NAMES, all by default.

    Raises:
        BadInput: An unknown arm, or a bundle of which no task can be run.
        ClusterFailed: The workers are lost.
        KeyboardInterrupt: stopped() was true.
    """
    arm_names = select_arms(arms)
    bundle = replace(bundle, program=spec.program)
    check_program(bundle)
    plan = Plan(spec.entrypoint, spec.table, spec.request(((0, spec.n_sets),)))
    whole = WHOLE_PROCESS in spec.resources
    with TrialWorkers(client, budget_seconds, stopped) as workers:
        runs = Runs(
            workers,
            plan,
            bundle,
            _limit_time(settings, spec.timeout_seconds),
            choose_tasks(plan, max(tasks, WIDE)),
            seed=seed,
            native_threads=threads if whole and threads > 1 else 0,
            is_deterministic=spec.deterministic,
            volatile=spec.volatile,
            runners=1 if whole else runners(threads, settings.subprocess_pool_size),
            say=say,
        )
        experiment = Experiment(runs, arm_names, repeats, tasks)
        experiment.run()
        return _conclude(experiment, spec.path, budget_seconds)


def _limit_time(settings: Settings, timeout_seconds: float) -> Settings:
    """The settings with the time limit of a study file, in whole seconds; 0: it has none."""
    if not timeout_seconds:
        return settings
    return replace(settings, task_timeout_seconds=math.ceil(timeout_seconds))


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
            runs.say("looking for the sources of randomness")
            sources = causes.find_sources(runs)
            if facts["files"]:
                sources = tuple(source for source in sources if source.kind == "files")
        elif verdict == "concurrency":
            runs.say("looking for files that tasks share")
            sources = causes.find_shared_files(runs)
            lines += [
                f"Tasks {source.call}, a path that concurrent tasks also use ({source.file}:{source.line})."
                for source in sources
            ]
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
        not_excluded=(*list_open_causes(facts), *_list_uncovered(experiment, row)),
        arms=_report_arms(runs, facts),
        tasks=len((runs.reference.keys() | runs.ordered.keys()) - runs.left_out),
        orders=experiment.repeats,
        seed=runs.seed,
        budget_seconds=budget_seconds,
        seconds=round(runs.workers.elapsed_seconds(), 1),
        observations=tuple(runs.observations),
    )


def _list_uncovered(experiment: Experiment, row: VerdictRule) -> Iterator[str]:
    """Parameters that the compared tasks did not cover, if nothing in the covered ones differs."""
    if row.verdict not in ("healthy", "inconclusive"):
        return
    runs, n_tasks = experiment.runs, experiment.runs.plan.n_tasks
    reused = runs.list_reused()
    if confidence_of_healthy(experiment.runs) < confidence.STATED:
        needed = confidence.n_tasks_needed(n_tasks)
        for cause, count, how in (
            ("process-reuse", len(reused), "after others in one process"),
            ("concurrency", len(runs.tallies["baseline"].reusing_tasks), "side by side"),
        ):
            if 0 < count < needed:
                yield (
                    f"{cause}: {count} of {n_tasks} tasks were compared {how}; confidence "
                    f"{confidence.STATED} needs {needed}"
                )
    if reused:
        uncovered = list_uncovered(runs.plan, [runs.tasks[number] for number in reused])
        if uncovered:
            ellipsis = (
                f" and {len(uncovered) - SHOWN_UNCOVERED} more" if len(uncovered) > SHOWN_UNCOVERED else ""
            )
            names = ", ".join(uncovered[:SHOWN_UNCOVERED])
            yield f"process-reuse by tasks with {names}{ellipsis}: none was compared"


def _limit_process_reuse(leak: Leak, settings: Settings) -> int:
    """maxProcessReuse that bounds a leak; a lower value stays."""
    return min(leak.max_process_reuse, settings.max_process_reuse or leak.max_process_reuse)


def _compute_confidence(experiment: Experiment, row: VerdictRule) -> float:
    """The confidence of the verdict; for inconclusive, how near to healthy it came if nothing differs."""
    runs, tallies = experiment.runs, experiment.runs.tallies
    cold, single = tallies["cold"], tallies["single-process"]
    if row.verdict == "healthy" or row.facts.get("few"):
        return confidence_of_healthy(experiment.runs)
    if row.verdict == "inconclusive":
        return 0.0
    if row.verdict == "seed-unused":
        return confidence.of_equal_pairs(experiment.seed_use.n_pairs)
    if row.facts.get("files"):
        return confidence.of_difference(cold.n_differing, cold.n_compared, 0, runs.alone_tally.n_compared)
    if row.verdict == "model-nondeterministic":
        is_told_apart = row.facts.get("fresh") or row.facts.get("surroundings")
        return confidence.MOST if is_told_apart else NOT_TOLD_APART
    if row.verdict == "memory":
        if experiment.too_big:
            return confidence.MOST
        out_of_memory = confidence.of_difference(single.n_out_of_memory, single.n_tasks, 0, cold.n_tasks)
        return max(out_of_memory, INTERVAL if experiment.growth and experiment.growth.leaks else 0.0)
    if row.facts.get("fresh") == SAME:  # cold differs from itself, new environments do not
        return confidence.of_difference(cold.n_differing, cold.n_compared, 0, runs.fresh_tally.n_compared)
    return runs.confidence_of(_select_proof_arms(runs, row)[0])


def _select_proof_arms(runs: Runs, row: VerdictRule) -> tuple[str, str]:
    """The two arms whose difference proves a verdict: the most certain pair."""
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
    expected = runs.fresh if anew else runs.expected
    if tally.first is None:
        return Evidence(
            arms=(arm, control), differing=tally.n_differing, compared=tally.n_compared, lines=tuple(lines)
        )
    task_run = tally.first[1]
    example = find_example(causes.make_task_ref(runs, task_run.task).task, expected[task_run.task], task_run)
    if example.kind == "rounding":
        lines.append("In the example, the numbers differ only by rounding.")
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
    """Further facts for the user besides the verdict."""
    runs, tallies = experiment.runs, experiment.runs.tallies
    failures = [(task, task_run) for task, task_run in runs.reference.items() if task_run.status != "ok"]
    if failures:
        number, task_run = min(failures, key=lambda failure: failure[0])
        task = causes.make_task_ref(runs, number)
        yield (
            f"Task {task.task} also ends {task_run.status} ({task_run.reason}) alone in a new process: "
            f"mops-helm study try {shlex.quote(str(spec))} --task {task.task}"
        )
    if row.verdict == "seed-unused":
        n_pairs = experiment.seed_use.n_pairs
        yield f"{n_pairs} replicates in new processes equal the first of their set, which has another seed."
        for part in experiment.drawn_parts[:SHOWN_PARTS]:
            yield (
                f"{describe_part(part)}: no seed changes it, but it varies when one process runs "
                "a task repeatedly: a generator is never seeded."
            )
        yield "No preset fixes this: derive all randomness in the model from its argument `seed`."
        if not experiment.drawn_parts:
            yield "If the model is not random, set `deterministic: true` in the study file."
    if row.verdict == "process-reuse":
        if experiment.seed_use.is_unused:
            yield "In new processes, all replicates are equal whatever their seeds."
        cure = {
            False: "isolated-fork gives the same results as cold, so it fixes the problem.",
            True: "isolated-fork also differs: the model is not safe to fork.",
        }
        if (fork := facts.get("fork")) is not None:
            yield cure[fork]
        if facts.get("concurrency"):
            yield "Concurrent processes also differ, even with a new one for each task: concurrency."
    if row.verdict == "model-nondeterministic":
        if facts["files"]:
            yield "No preset fixes this: a task must not read what another task has written (use tempfile)."
        else:
            yield "No preset fixes this: derive all randomness in the model from its argument `seed`."
    for axis in experiment.axes or ():
        text = "All workers of a study have the same; results may differ elsewhere." if axis.is_fixed else ""
        yield f"Results depend on the {axis.name}. {text}".rstrip()
    for name, tally in tallies.items():
        if tally.n_differing and runs.judge_arm(name) is None and not (tally.skip_reason or facts["cold"]):
            yield (
                f"{name}: {tally.n_differing} of {tally.n_compared} results differed, too few for a "
                f"conclusion (confidence {runs.confidence_of(name):.2f})."
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
