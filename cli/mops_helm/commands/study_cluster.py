"""`mops-helm study submit|list|cancel`, and `status` of a study in the cluster."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from mops_helm import options
from mops_helm.forms import OutputFormat

if TYPE_CHECKING:
    from modelops_dask.kube.connect import Cluster
    from modelops_dask.kube.study_jobs import StudyJob


@click.command()
@options.spec
@click.option("--release", metavar="RELEASE", required=True, help="Release whose workers run the study.")
@options.namespace
@options.kube_context
@click.option(
    "--chunks",
    metavar="N",
    type=click.IntRange(1, 10_000),
    help="Run in N separate pods like worker pods, without the scheduler and workers.",
)
@options.bundle
@click.option(
    "--store",
    metavar="URL",
    default="",
    help="URL or path of the results as pods see it.  [default: NAME-DIGEST in studies.store of the release]",
)
@options.retry
@options.check
@options.redo
@click.option("--watch", is_flag=True, help="Follow the study, and exit with its status.")
def submit(
    *,
    spec_path: Path,
    release: str,
    namespace: str,
    context: str,
    chunks: int | None,
    bundle: str | None,
    store: str,
    retry: Sequence[str],
    n_checks: int,
    redo: str,
    watch: bool,
) -> None:
    """Run a study in the cluster as a Job.

    This machine may be switched off afterwards. Submitting the same study twice starts one run. A study that
    ended continues in its store: only tasks without a stored result run.
    """
    from modelops_dask.kube import connect, study_jobs
    from modelops_dask.plan.spec import load
    from modelops_dask.settings import Settings
    from modelops_dask.study.calls import describe_call
    from modelops_dask.study.check import N_TASKS
    from mops_helm.render import study_plan, submitted_studies
    from mops_helm.study import command_line, pod_reader, studies, submission

    def say(text: str) -> None:
        click.echo(text, err=True)

    spec = load(spec_path)
    for line in study_plan.render_warnings(spec, on_terminal=sys.stderr.isatty()):
        say(line)
    model = studies.fetch_bundle(spec, bundle, Settings.from_env())
    say(str(describe_call(model, spec.entrypoint)))
    cluster = connect.connect(context, namespace)
    location = submitted_studies.render_location_flags(cluster.namespace, context)
    check_flag = ("--check", "" if n_checks == N_TASKS else str(n_checks))
    flags = (("--chunks", chunks), ("--bundle", bundle), ("--store", store), check_flag)
    request = submission.SubmitRequest(
        spec=spec,
        bundle=model,
        chunks=chunks or 0,
        store=store,
        retry=retry,
        n_checks=n_checks,
        redo=redo,
        command=command_line.format_submit_command(spec_path, location, release, flags),
    )
    submitted_study = submission.submit(
        cluster, release, request, partial(pod_reader.send_bundle, cluster, say=say)
    )
    say(submitted_studies.render_submission(submitted_study))
    if watch:
        _watch(cluster, study_jobs.find_study_job(cluster, submitted_study.job), location, "table")
    say(submitted_studies.render_watch_commands(submitted_study.job, location))
    click.echo(submitted_study.job)


@click.command("list")
@options.namespace
@options.kube_context
@options.output
def list_(*, namespace: str, context: str, output: OutputFormat) -> None:
    """List the studies in the cluster.

    The newest is first. A study that ended is listed for a day; its store remains.
    """
    from modelops_dask.kube import connect, study_jobs
    from mops_helm.render import submitted_studies

    cluster = connect.connect(context, namespace)
    click.echo(
        submitted_studies.render_study_list(study_jobs.list_study_jobs(cluster), cluster.namespace, output)
    )


@click.command()
@options.study
@options.namespace
@options.kube_context
def cancel(*, study: str, namespace: str, context: str) -> None:
    """Stop a study in the cluster.

    Running batches are stored first. Submit the study again to continue it.
    """
    from modelops_dask.kube import connect, jobs, study_jobs
    from mops_helm.render import submitted_studies

    cluster = connect.connect(context, namespace)
    job = study_jobs.find_study_job(cluster, study)
    if not job.ended:
        jobs.cancel(cluster, job.job)
    click.echo(submitted_studies.render_cancellation(job))


def show_status(study: str, namespace: str, context: str, *, watch: bool, output: OutputFormat) -> None:
    """Show `study status` of a study in the cluster."""
    from modelops_dask.kube import connect, study_jobs, study_problems
    from mops_helm.render import submitted_studies

    cluster = connect.connect(context, namespace)
    job = study_jobs.find_study_job(cluster, study)
    location = submitted_studies.render_location_flags(cluster.namespace, context)
    if watch:
        _watch(cluster, job, location, output)
    reasons = study_problems.find_problems(cluster, job)
    click.echo(submitted_studies.render_study_status(job, reasons, location, output))


def _watch(cluster: "Cluster", study: "StudyJob", location: str, output: OutputFormat) -> NoReturn:
    """Follow a study to its end, and end this command with its exit status. Ctrl-C leaves it running."""
    from modelops_dask.kube import study_problems
    from mops_helm.render import submitted_studies
    from mops_helm.study import follower, progress

    try:
        with progress.report_progress(sys.stderr, "auto") as reporter:
            ended = follower.Follower(cluster, reporter).until_end(study)
    except KeyboardInterrupt:
        commands = submitted_studies.render_watch_commands(study.job, location)
        click.echo(f"\nThe study continues in the cluster.\n{commands}", err=True)
        sys.exit(130)
    reasons = study_problems.find_problems(cluster, ended)
    click.echo(submitted_studies.render_study_status(ended, reasons, location, output))
    sys.exit(ended.exit_code)
