"""`mops-helm explain CODE`."""

import click

from mops_helm import options
from mops_helm.forms import OutputFormat


@click.command()
@click.argument("code", metavar="[CODE]", required=False)
@options.output
def explain(code: str | None, output: OutputFormat) -> None:
    """Explain the code of a finding.

    Without CODE, all codes of values files, study files and `study verify` are listed.
    """
    from mops_helm import codes
    from mops_helm.render import findings

    if code is None:
        click.echo(findings.render_codes(codes.load_codes(), output))
    else:
        click.echo(findings.render_code(codes.find_code(code), output))
