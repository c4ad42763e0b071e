"""`mops-helm study submit|list|cancel`, and what `status` shows of a study in the cluster."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mops_helm import options

if TYPE_CHECKING:
    from modelops_dask.kube.connect import Cluster
    from modelops_dask.kube.submitted import Submitted


@click.command()
@options.spec
@click.option("--release", metavar="RELEASE", required=True, help="The release whose workers it uses.")
@options.namespace
@options.kube_context
@click.option(
    "--chunks",
    metavar="N",
    type=click.IntRange(1, 10_000),
    help="Run in N pods of its own, each shaped as a worker pod, that need no scheduler or workers.",
)
@options.bundle
@click.option(
    "--store",
    metavar="URL",
    default="",
    help="Where results are kept, as pods see it.  [default: NAME-DIGEST in studies.store of the release]",
)
@options.retry
@click.option("--watch", is_flag=True, help="Follow it, and end with its exit status.")
def submit(
    spec_path: Path,
    release: str,
    namespace: str,
    context: str,
    chunks: int | None,
    bundle: str | None,
    store: str,
    retry: Sequence[str],
    watch: bool,
) -> None:
    """Run a study in the cluster as a Job, or go on with it; this machine may go away.

    The same study submitted twice is one run. One that ended goes on in its store: only what is left is run.
    """
    from modelops_dask.kube import connect, submitted
    from modelops_dask.settings import Settings
    from modelops_dask.study import spec
    from mops_helm import reading, render_cluster, render_study, studies, submission

    def say(text: str) -> None:
        click.echo(text, err=True)

    loaded = spec.load(spec_path)
    for line in render_study.warnings(loaded):
        say(line)
    held = studies.bundle_of(loaded, bundle, Settings.from_env())
    cluster = connect.connect(context, namespace)
    where = render_cluster.place(cluster.namespace, context)
    given = (("--chunks", chunks), ("--bundle", bundle), ("--store", store))
    flags = " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in given if value)
    typed = f"mops-helm study submit {shlex.quote(str(spec_path))} {where} --release {shlex.quote(release)}"
    asked = submission.Request(loaded, held, chunks or 0, store, retry, f"{typed} {flags}".rstrip())
    done = submission.submit(
        cluster, release, asked, lambda *bundle_to: reading.send(cluster, *bundle_to, say=say)
    )
    say(render_cluster.submitted(done))
    if watch:
        _watch(cluster, submitted.find(cluster, done.job), where)
    say(render_cluster.watch_lines(done.job, where))
    click.echo(done.job)


@click.command("list")
@options.namespace
@options.kube_context
@options.output
def list_(namespace: str, context: str, output: str) -> None:
    """The studies in the cluster, the newest first. Those that ended stay for a day; their stores remain."""
    from modelops_dask.kube import connect, submitted
    from mops_helm import render_cluster

    cluster = connect.connect(context, namespace)
    found = submitted.listed(cluster)
    click.echo(render_cluster.listed(found, cluster.namespace, output))


@click.command()
@options.study
@options.namespace
@options.kube_context
def cancel(study: str, namespace: str, context: str) -> None:
    """End a study in the cluster: what runs is stored first, and submitted again it goes on."""
    from modelops_dask.kube import connect, jobs, submitted
    from mops_helm import render_cluster

    cluster = connect.connect(context, namespace)
    found = submitted.find(cluster, study)
    if found.ended:
        click.echo(f"{found.job} has ended already: {found.state}. Its results stay in {found.store}.")
        return
    jobs.cancel(cluster, found.job)
    click.echo(render_cluster.cancelled(found))


def show(study: str, namespace: str, context: str, watch: bool, output: str) -> None:
    """`study status` of a study in the cluster."""
    from modelops_dask.kube import connect, stuck, submitted
    from mops_helm import render_cluster

    cluster = connect.connect(context, namespace)
    found, where = submitted.find(cluster, study), render_cluster.place(cluster.namespace, context)
    if watch:
        _watch(cluster, found, where, output)
    click.echo(render_cluster.status(found, stuck.reasons(cluster, found), where, output))


def _watch(cluster: "Cluster", study: "Submitted", where: str, output: str = "table") -> None:
    """Follow a study to its end, and end this command with its exit status. Ctrl-C leaves it running."""
    from modelops_dask.kube import stuck
    from mops_helm import following, progress, render_cluster

    try:
        with progress.reporting(sys.stderr, "auto") as shown:
            ended = following.Follower(cluster, shown).until_end(study)
    except KeyboardInterrupt:
        click.echo(
            f"\nThe study goes on in the cluster.\n{render_cluster.watch_lines(study.job, where)}", err=True
        )
        sys.exit(130)
    click.echo(render_cluster.status(ended, stuck.reasons(cluster, ended), where, output))
    sys.exit(ended.exit_code)
