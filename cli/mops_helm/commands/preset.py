"""mops-helm preset: list, show, diff, render; diagnose is in diagnose.py."""

from pathlib import Path

import click

from mops_helm import options
from mops_helm.commands.diagnose import diagnose
from mops_helm.forms import OutputFormat


@click.group()
def preset() -> None:
    """List, show, compare and render presets."""


preset.add_command(diagnose)


@preset.command(name="list")
@options.output
def list_(output: OutputFormat) -> None:
    """List the presets.

    Isolation presets come first, then workload presets.
    """
    from mops_helm.render import values_files
    from mops_helm.values import presets

    click.echo(values_files.render_presets(presets.all_presets(), output))


@preset.command()
@click.argument("name")
@options.output
def show(name: str, output: OutputFormat) -> None:
    """Print a preset and its purpose."""
    from mops_helm.render import values_files
    from mops_helm.values import presets

    click.echo(values_files.render_preset(presets.find(name), output))


@preset.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@options.output
def diff(first: str, second: str, output: OutputFormat) -> None:
    """Compare the values of two presets.

    Each preset is first merged over the chart's defaults.
    """
    from mops_helm.render import values_files
    from mops_helm.values import layers

    merged = [layers.resolve([name], (), ()) for name in (first, second)]
    click.echo(values_files.render_differences(layers.compare(*merged), (first, second), output))


@preset.command(name="render")
@click.argument("name")
@options.files
@options.sets
@click.option(
    "--release",
    metavar="RELEASE",
    default="modelops",
    show_default=True,
    help="Name of the release in the manifests.",
)
@click.option("--values", "values_only", is_flag=True, help="Print the merged values, without helm.")
def render_(
    name: str, files: tuple[Path, ...], sets: tuple[str, ...], release: str, values_only: bool
) -> None:
    """Print the manifests that a preset renders.

    Helm renders them without a cluster. Files of -f override a workload preset, an isolation preset overrides
    the files, and --set overrides everything.
    """
    from mops_helm import forms, helm
    from mops_helm.values import layers

    merged = layers.resolve([name], files, sets)
    if values_only:
        click.echo(forms.render_yaml(merged.values), nl=False)
    else:
        click.echo(helm.template(release, layers.list_files([name], files), sets), nl=False)
