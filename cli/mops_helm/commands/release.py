"""`mops-helm install`, `upgrade` and `status`: a release in a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mops_helm import options

RELEASE = click.argument("release", metavar="RELEASE")
SENDING = (  # of install and upgrade, in the order of --help
    options.presets,
    options.files,
    options.sets,
    click.option(
        "--no-warm-processes",
        is_flag=True,
        help="Run tasks in the workers' own processes: preset direct (executor.type=direct).",
    ),
    options.namespace,
    options.kube_context,
    click.option(
        "--wait/--no-wait",
        default=True,
        show_default=True,
        help="Follow the pods until they are ready, and say why they are not.",
    ),
    click.option(
        "--timeout",
        metavar="DURATION",
        default="5m",
        show_default=True,
        callback=options.seconds,
        help="How long that may take: 90s, 5m, 1h.",
    ),
    click.option("--dry-run", is_flag=True, help="Have helm and the cluster judge it; change nothing."),
    click.option("--diff", is_flag=True, help="Print what changes in each object, without secrets."),
)


def _sends(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed((RELEASE, *SENDING)):
        command = option(command)
    return command


@click.command()
@_sends
def install(**given: Any) -> None:
    """Install RELEASE: check the values, hand them to helm, follow the pods.

    A workload preset lies under the files of -f, an isolation preset over them, --set over all.
    """
    _send("install", **given)


@click.command()
@_sends
@click.option("--reset-values", is_flag=True, help="Forget the values it has; presets stay.")
def upgrade(**given: Any) -> None:
    """Upgrade RELEASE: what is asked for changes, everything else stays.

    --preset replaces the release's preset of that kind; -f and --set lie over the values it has.
    """
    _send("upgrade", **given)


def _send(
    verb: str,
    release: str,
    preset_names: tuple[str, ...],
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    no_warm_processes: bool,
    namespace: str,
    context: str,
    wait: bool,
    timeout: int,
    dry_run: bool,
    diff: bool,
    reset_values: bool = False,
) -> None:
    from modelops_dask.kube.connect import connect
    from mops_helm import release as releases
    from mops_helm import release_diff, release_rollout, render_release
    from mops_helm.helm import Place
    from mops_helm.release_values import Asked, refuse_early

    def say(text: str) -> None:
        click.echo(text, err=True)

    wanted = releases.with_direct(preset_names) if no_warm_processes else preset_names
    asked = Asked(wanted, files, sets, reset_values)
    refuse_early(verb, asked)
    cluster = connect(context, namespace)
    place = Place(release, cluster.namespace, context)
    planned = releases.plan(verb, place, asked)
    for text in render_release.plan(planned):
        say(text)
    if diff:
        click.echo(release_diff.unified(planned.before, planned.after))
    releases.send(cluster, planned, say, timeout_seconds=timeout, dry_run=dry_run)
    if dry_run:
        say("Nothing was changed: --dry-run.")
        return
    if wait:
        status = render_release.status_command(place)
        release_rollout.follow(cluster, release, timeout, say, status)
    click.echo(render_release.next_steps(place, planned, waited=wait))


@click.command()
@RELEASE
@options.namespace
@options.kube_context
@options.output
@click.pass_context
def status(ctx: click.Context, release: str, namespace: str, context: str, output: str) -> None:
    """Show what is in effect in RELEASE, against what its values say.

    Values, rendered manifest, each live pod and each worker process are compared. Exit status 3 when they
    differ, or when not all pods and processes that should be there are.
    """
    from modelops_dask.kube.connect import connect
    from mops_helm import release_status, render_release
    from mops_helm.helm import Place

    cluster = connect(context, namespace)
    found = release_status.look(cluster, Place(release, cluster.namespace, context))
    click.echo(render_release.status(found, output))
    if not found.proven:
        ctx.exit(3)
