"""`mops-helm doctor`."""

import click

from mops_helm import options


@click.command()
@options.output
@click.pass_context
def doctor(ctx: click.Context, output: str) -> None:
    """Check this machine for what the commands need; exit 3 when something required is not ok."""
    from mops_helm import doctor, render

    checks = doctor.examine()
    click.echo(doctor.table(checks) if output == "table" else render.data(checks, output))
    if not doctor.healthy(checks):
        ctx.exit(3)
