"""`mops-helm study`: plan, run, try; the others are in study_new.py, study_read.py and study_cluster.py."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mops_helm import options
from mops_helm.commands.study_cluster import cancel, list_, submit
from mops_helm.commands.study_new import new
from mops_helm.commands.study_read import report, results, status, verify

STORE = click.option(
    "--store", metavar="DIR", help="Where results are kept: a folder or URL.  [default: out/NAME]"
)


@click.group()
def study() -> None:
    """Studies: create, plan, run, try, read, submit to a cluster.

    SPEC is a study.yaml or a study JSON of ModelOps; STUDY is where its results are kept or, with -n, its
    name in the cluster.
    """


for command in (new, status, results, report, verify, submit, list_, cancel):
    study.add_command(command)


@study.command()
@options.spec
@options.presets
@options.files
@options.sets
@options.bundle
@STORE
@click.option("--tasks", is_flag=True, help="Every task: set, replicate, param_id, seed, parameters.")
@click.option(
    "--pilot",
    metavar="N",
    type=click.IntRange(1),
    help="Run N tasks on this machine first, from all over the study, and keep their results.",
)
@options.output
def plan(
    spec_path: Path,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    store: str | None,
    tasks: bool,
    pilot: int | None,
    output: str,
) -> None:
    """Say what a study amounts to, and what it will take; run nothing, or a pilot.

    Time and memory are estimated from what was measured: by earlier runs of the same model, or by --pilot.
    """
    from modelops_dask.errors import MopsError
    from modelops_dask.study import spec
    from modelops_dask.study.drive import Watcher, refusal
    from mops_helm import forecast, progress, render_study, studies

    loaded = spec.load(spec_path)
    for line in render_study.warnings(loaded):
        click.echo(line, err=True)
    if tasks:
        for line in render_study.tasks(studies.plan_of(loaded), output):
            click.echo(line)
        return
    where, on = studies.store_of(loaded, store), studies.workers(preset_names, files, sets)
    if pilot:
        with progress.reporting(sys.stderr, "auto") as shown:
            held = studies.bundle_of(loaded, bundle, on.settings)
            watcher = Watcher(shown.phase, shown.progress, shown.say)
            studies.run_study(loaded, held, where, on, (), watcher, pilot=pilot)
    reference, held, refused = "", None, None
    try:
        reference = studies.reference_of(loaded, bundle)
        held = studies.bundle_of(loaded, reference, on.settings)
        refused = refusal(loaded, held, where)
    except MopsError as error:  # also a store that does not answer: nothing is run here
        refused = error
    expected = forecast.forecast(loaded, held, where, on)
    click.echo(render_study.plan(loaded, reference, where.url, expected, output))
    if refused:
        click.echo(f"`mops-helm study run` would refuse: {refused}", err=True)
    if warning := render_study.pilot_advice(loaded, expected):
        click.echo(warning, err=True)


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
@click.option(
    "--progress",
    "form",
    type=click.Choice(["auto", "json"]),
    default="auto",
    show_default=True,
    help="How to tell how far it is, on standard error: a line that changes or, off a terminal, lines; or a "
    "JSON object a line.",
)
@options.output
def run(
    spec_path: Path,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    store: str | None,
    scheduler: str,
    retry: Sequence[str],
    form: str,
    output: str,
) -> None:
    """Run a study, or go on with it: only what is left is run.

    Workers are started on this machine in the shape of the values, as far as they fit.
    """
    from modelops_dask.study import spec
    from modelops_dask.study.drive import Watcher
    from mops_helm import progress, render_study, studies

    flags = _flags(preset_names, files, sets)
    given = (("--bundle", bundle), ("--store", store), ("-d", scheduler))
    places = " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in given if value)
    again = " ".join(filter(None, ("mops-helm study run", shlex.quote(str(spec_path)), flags, places)))
    with progress.reporting(sys.stderr, form) as shown:
        loaded = spec.load(spec_path)
        for line in render_study.warnings(loaded):
            shown.say(line)
        on = studies.workers(preset_names, files, sets, scheduler)
        try:
            summary = studies.run_study(
                loaded,
                studies.bundle_of(loaded, bundle, on.settings),
                studies.store_of(loaded, store),
                on,
                retry,
                Watcher(shown.phase, shown.progress, shown.say),
            )
        except KeyboardInterrupt:  # the second Ctrl-C, or one before the workers: what is stored stays
            shown.say(f"Interrupted. The same command goes on:\n  {again}")
            sys.exit(130)
        click.echo(render_study.summary(summary, output, flags))
        shown.say(render_study.next_step(summary, again, str(spec_path)))
    sys.exit(summary.exit_code)


@study.command("try")
@click.argument("where", metavar="SPEC|STORE")
@click.option(
    "--task", "task_id", metavar="SET/REPLICATE", default="0/0", show_default=True, help="Which task."
)
@options.presets
@options.files
@options.sets
@options.bundle
@options.request
@options.output
def try_(
    where: str,
    task_id: str,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    spec_path: Path | None,
    output: str,
) -> None:
    """Run one task here, in the foreground; its result is shown and not stored.

    What the model prints goes to standard error as it comes. A task of a store that ran out of memory may
    hold as much as it could then.
    """
    from modelops_dask.study import packed
    from mops_helm import render_study, studies

    if spec_path and Path(where).is_file():
        raise click.UsageError("--spec says which tasks of a store are meant; a study file has its own")
    on = studies.workers(preset_names, files, sets)

    def echo(text: bytes) -> None:
        sys.stderr.buffer.write(text)
        sys.stderr.flush()

    request = spec_path and packed.load(spec_path)
    result = studies.try_task(
        where, task_id, bundle, on, echo, lambda text: click.echo(text, err=True), request=request
    )
    click.echo(render_study.tried(result, output))
    sys.exit(0 if result.outcome.status == "ok" else 3)


def _flags(preset_names: Sequence[str], files: Sequence[Path], sets: Sequence[str]) -> str:
    """The flags that chose the values, as they would be typed again."""
    words = [word for name in preset_names for word in ("--preset", name)]
    words += [word for path in files for word in ("-f", str(path))]
    words += [word for text in sets for word in ("--set", text)]
    return shlex.join(words)
