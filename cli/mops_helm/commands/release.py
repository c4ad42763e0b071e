"""`mops-helm install`, `upgrade` and `status`: a release in a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mops_helm import options
from mops_helm.forms import OutputFormat

RELEASE = click.argument("release", metavar="RELEASE")
SEND_OPTIONS = (  # of install and upgrade, in the order of --help
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
        help="Follow the pods until they are ready, and report problems.",
    ),
    click.option(
        "--timeout",
        metavar="DURATION",
        default="5m",
        show_default=True,
        callback=options.parse_seconds,
        help="How long to follow the pods: 90s, 5m, 1h.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Validate with Helm and the API server without changing anything."
    ),
    click.option("--diff", is_flag=True, help="Print what changes in each object, without secrets."),
)


def _with_send_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed((RELEASE, *SEND_OPTIONS)):
        command = option(command)
    return command


@click.command()
@_with_send_options
def install(**flags: Any) -> None:
    """Install a release and follow its pods.

    The values are checked and passed to Helm. Files of -f override a workload preset, an isolation preset
    overrides the files, and --set overrides everything.
    """
    _send("install", **flags)


@click.command()
@_with_send_options
@click.option("--reset-values", is_flag=True, help="Forget the release's own values; presets stay.")
def upgrade(**flags: Any) -> None:
    """Change a release's presets and values.

    Only what you specify changes. --preset replaces the release's preset of that kind; -f and --set override
    the values it has.
    """
    _send("upgrade", **flags)


def _send(
    verb: str,
    *,
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
    from mops_helm.helm import ReleaseRef
    from mops_helm.release import diff as release_diff
    from mops_helm.release import release as releases
    from mops_helm.release import rollout as release_rollout
    from mops_helm.release.values import ReleaseRequest, refuse_early
    from mops_helm.render import release_text

    def say(text: str) -> None:
        click.echo(text, err=True)

    presets = releases.add_direct(preset_names) if no_warm_processes else preset_names
    request = ReleaseRequest(presets, files, sets, reset_values)
    refuse_early(verb, request)
    cluster = connect(context, namespace)
    release_ref = ReleaseRef(release, cluster.namespace, context)
    plan = releases.plan(verb, release_ref, request)
    for line in release_text.render_release_plan(plan):
        say(line)
    if diff:
        click.echo(release_diff.unified(plan.before, plan.after))
    releases.send(cluster, plan, say, timeout_seconds=timeout, dry_run=dry_run)
    if dry_run:
        say("Dry run: nothing was changed.")
        return
    if wait:
        status_command = release_text.render_status_command(release_ref)
        release_rollout.follow(cluster, release, timeout, say, status_command)
    click.echo(release_text.render_next_steps(release_ref, plan, waited=wait))


@click.command()
@RELEASE
@options.namespace
@options.kube_context
@options.output
@click.pass_context
def status(ctx: click.Context, *, release: str, namespace: str, context: str, output: OutputFormat) -> None:
    """Compare a running release with its values.

    The values, the rendered manifest, each live pod and each worker process are compared. The exit status is
    3 if they differ, or if expected pods or processes are missing.
    """
    from modelops_dask.kube.connect import connect
    from mops_helm.helm import ReleaseRef
    from mops_helm.release import status as release_status
    from mops_helm.render import release_text

    cluster = connect(context, namespace)
    release_ref = ReleaseRef(release, cluster.namespace, context)
    effect = release_status.read_status(cluster, release_ref)
    click.echo(release_text.render_release_status(effect, output))
    if not effect.proven:
        ctx.exit(3)
