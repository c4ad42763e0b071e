"""`mops-helm study`: plan, run, try; the other commands are in study_new.py, study_read.py and
study_cluster.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mops_helm import options
from mops_helm.commands.study_cluster import cancel, list_, submit
from mops_helm.commands.study_new import new
from mops_helm.commands.study_read import report, results, status, verify
from mops_helm.forms import OutputFormat
from mops_helm.options.old_spellings import PlanCommand

if TYPE_CHECKING:
    from mops_helm.study.progress import ProgressFormat

STORE = click.option("--store", metavar="DIR", help="Directory or URL for the results.  [default: out/NAME]")


@click.group()
def study() -> None:
    """Create, plan, run and read studies.

    SPEC is a study file: study.yaml, or a study JSON of ModelOps. STUDY is the store of its results or, with
    -n, its name in the cluster.
    """


for command in (new, status, results, report, verify, submit, list_, cancel):
    study.add_command(command)


@study.command(cls=PlanCommand)
@options.spec
@options.presets
@options.files
@options.sets
@options.bundle
@STORE
@click.option(
    "--list-tasks", is_flag=True, help="List every task: set, replicate, param_id, seed, parameters."
)
@click.option(
    "--tasks",
    "--pilot",
    "pilot",
    metavar="N",
    type=click.IntRange(1),
    help="Run N tasks on this machine first, spread over the study, and keep their results.",
)
@options.output
def plan(
    *,
    spec_path: Path,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    store: str | None,
    list_tasks: bool,
    pilot: int | None,
    output: OutputFormat,
) -> None:
    """Estimate a study's size, time and memory.

    Estimates come from measurements: of earlier runs of the same model, or of a pilot (--tasks N). Without
    --tasks, nothing runs.
    """
    from modelops_dask.plan.spec import load
    from mops_helm.render import study_plan
    from mops_helm.study import progress, studies
    from mops_helm.study.forecast import preview_study

    spec = load(spec_path)
    for line in study_plan.render_warnings(spec, on_terminal=sys.stderr.isatty()):
        click.echo(line, err=True)
    if list_tasks:
        for line in study_plan.render_tasks(studies.make_plan(spec), output):
            click.echo(line)
        return
    study_store, workers = studies.open_store(spec, store), studies.choose_workers(preset_names, files, sets)
    if pilot:
        with progress.report_progress(sys.stderr, "auto") as reporter:
            model = studies.fetch_bundle(spec, bundle, workers.settings)
            watcher = progress.watch_with(reporter)
            studies.run_study(spec, model, study_store, workers, watcher=watcher, pilot=pilot)
    preview = preview_study(spec, bundle, study_store, workers)
    if preview.call:
        click.echo(preview.call, err=True)
    click.echo(study_plan.render_plan(spec, preview, study_store.url, output, workers.settings))
    if preview.refusal:
        click.echo(f"`mops-helm study run` would refuse: {preview.refusal}", err=True)
    if advice := study_plan.render_pilot_advice(spec, preview.forecast):
        click.echo(advice, err=True)


@study.command()
@options.spec
@options.presets
@options.files
@options.sets
@options.bundle
@STORE
@click.option(
    "-d",
    "--scheduler",
    metavar="ADDRESS",
    default="",
    help="Use the workers of a Dask scheduler, such as tcp://HOST:8786.",
)
@options.retry
@options.check
@options.redo
@click.option(
    "--progress",
    "progress_format",
    type=click.Choice(["auto", "json"]),
    default="auto",
    show_default=True,
    help="Format of progress on standard error: for people, or one JSON object per line.",
)
@options.output
def run(
    *,
    spec_path: Path,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    store: str | None,
    scheduler: str,
    retry: Sequence[str],
    n_checks: int,
    redo: str,
    progress_format: "ProgressFormat",
    output: OutputFormat,
) -> None:
    """Run a study, or continue it.

    Only tasks without a stored result run. Worker processes start on this machine in the shape that the
    values set, or in a smaller one if that does not fit.
    """
    from modelops_dask.plan.spec import load
    from modelops_dask.study.calls import describe_call
    from modelops_dask.study.common_cause import FailsAlike
    from mops_helm.render import study_plan, study_summary
    from mops_helm.render.self_check import Origin
    from mops_helm.study import command_line, progress, studies

    value_flags = command_line.format_value_flags(preset_names, files, sets)
    flags = (("--bundle", bundle), ("--store", store), ("-d", scheduler))
    command = command_line.format_run_command(spec_path, value_flags, flags)
    with progress.report_progress(sys.stderr, progress_format) as reporter:
        spec = load(spec_path)
        on_terminal = progress_format == "auto" and sys.stderr.isatty()
        for line in study_plan.render_warnings(spec, on_terminal=on_terminal):
            reporter.say(line)
        workers = studies.choose_workers(preset_names, files, sets, scheduler)
        try:
            model = studies.fetch_bundle(spec, bundle, workers.settings)
            reporter.say(str(describe_call(model, spec.entrypoint)))
            summary = studies.run_study(
                spec,
                model,
                studies.open_store(spec, store),
                workers,
                watcher=progress.watch_with(reporter),
                retry=retry,
                n_checks=n_checks,
                redo=redo,
            )
        # the second Ctrl-C, or one before the workers start: stored results are safe
        except KeyboardInterrupt:
            same_command = " ".join(filter(None, (command, command_line.format_flags([("--redo", redo)]))))
            reporter.say(f"Interrupted. Run the same command to continue:\n  {same_command}")
            sys.exit(130)
        except FailsAlike as error:
            error.flags = value_flags
            raise
        origin = Origin(
            spec=str(spec_path),
            flags=command_line.format_shape_flags(preset_names, files, sets),
            binds_executor=command_line.binds_executor(sets),
            bundle=bundle or "",
        )
        click.echo(study_summary.render_summary(summary, output, value_flags, origin))
        time_limit = study_summary.TimeLimit(
            spec.timeout_seconds or workers.settings.task_timeout_seconds,
            "file" if spec.timeout_seconds else "release" if scheduler else "values",
        )
        reporter.say(study_summary.render_next_step(summary, command, str(spec_path), time_limit))
    sys.exit(summary.exit_code)


@study.command("try")
@click.argument("source", metavar="SPEC|STORE")
@click.option(
    "--task", "task_id", metavar="SET/REPLICATE", default="0/0", show_default=True, help="The task to run."
)
@options.presets
@options.files
@options.sets
@options.bundle
@options.request
@options.output
def try_(
    *,
    source: str,
    task_id: str,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    spec_path: Path | None,
    output: OutputFormat,
) -> None:
    """Run one task here and show its result.

    The result is not stored. What the model prints goes to standard error immediately. A stored task that ran
    out of memory gets the memory limit that it had then.
    """
    from modelops_dask.study import packed
    from mops_helm.render import study_results
    from mops_helm.study import mix_ups, studies, task_trial

    mix_ups.check_source(source, options.name_command(click.get_current_context()))

    if spec_path and Path(source).is_file():
        raise click.UsageError("--spec selects tasks of a store; leave it out for a study file")

    def echo(text: bytes) -> None:
        sys.stderr.buffer.write(text)
        sys.stderr.flush()

    workers = studies.choose_workers(preset_names, files, sets)
    trial = task_trial.try_task(
        source,
        task_id,
        bundle,
        workers,
        echo=echo,
        say=lambda text: click.echo(text, err=True),
        request=packed.load(spec_path) if spec_path else None,
    )
    click.echo(study_results.render_task_trial(trial, output))
    sys.exit(0 if trial.outcome.status == "ok" else 3)
