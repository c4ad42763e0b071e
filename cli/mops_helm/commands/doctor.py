"""`mops-helm doctor`."""

import click

from mops_helm import options
from mops_helm.forms import OutputFormat, render_data


@click.command()
@options.output
@click.pass_context
def doctor(ctx: click.Context, output: OutputFormat) -> None:
    """Check this machine for what commands need.

    The exit status is 3 if something required is missing or does not work.
    """
    from mops_helm import doctor

    checks = doctor.examine()
    if output == "table":  # it renders itself, because it must work if packages are missing
        click.echo(doctor.table(checks))
    else:
        click.echo(render_data([check.as_json() for check in checks], output))
    if not doctor.healthy(checks):
        ctx.exit(3)
