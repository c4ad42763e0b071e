"""`mops-helm doctor`."""

import click

from mops_helm import options


@click.command()
@options.output
@click.pass_context
def doctor(ctx: click.Context, output: str) -> None:
    """Check this machine for what the commands need; exit 3 when something required is not ok."""
    from mops_helm import doctor

    checks = doctor.examine()
    if output == "table":  # renders by itself: it must work where packages are missing
        click.echo(doctor.table(checks))
    else:
        from mops_helm import render

        click.echo(render.data([vars(check) for check in checks], output))
    if not doctor.healthy(checks):
        ctx.exit(3)
