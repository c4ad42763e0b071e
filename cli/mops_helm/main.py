"""The command tree, and the single point at which errors become a message and an exit status."""

import sys
from importlib import import_module

import click

from modelops_dask.errors import MopsError

GROUPS = {  # name -> (module.attribute, one line of help); modules are imported when a command needs them
    "study": ("mops_helm.commands.study:study", "Create, plan, run and read studies."),
    "diagnose": ("mops_helm.commands.diagnose:diagnose", "Find the cause of odd results."),
    "values": ("mops_helm.commands.values:values", "Check, explain and convert values files."),
    "explain": ("mops_helm.commands.explain:explain", "Explain the code of a finding."),
    "preset": ("mops_helm.commands.preset:preset", "List, show, compare and render presets."),
    "install": ("mops_helm.commands.release:install", "Install a release and follow its pods."),
    "upgrade": ("mops_helm.commands.release:upgrade", "Change a release's presets and values."),
    "status": ("mops_helm.commands.release:status", "Compare a running release with its values."),
    "doctor": ("mops_helm.commands.doctor:doctor", "Check this machine for what commands need."),
}


class LazyGroup(click.Group):
    """Imports a group on first use, and prints errors for every command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in GROUPS:
            return None
        module, _, attribute = GROUPS[name][0].partition(":")
        return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in GROUPS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except MopsError as error:
            from mops_helm.render.findings import render_error

            click.echo(render_error(error, on_terminal=sys.stderr.isatty()), err=True)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):  # Abort: at a question
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


@click.group(
    cls=LazyGroup,
    commands=dict.fromkeys(GROUPS),  # where click searches for a name similar to a mistyped one
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mops-helm")
def main() -> None:
    """Run stochastic simulation studies with Dask, on this machine or in Kubernetes."""


if __name__ == "__main__":
    sys.exit(main())
