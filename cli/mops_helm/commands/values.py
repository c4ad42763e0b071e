"""mops-helm values: check, explain, convert."""

from pathlib import Path

import click

from mops_helm import options
from mops_helm.forms import OutputFormat

FILES = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group()
def values() -> None:
    """Values files: check, explain, convert."""


@values.command()
@FILES
@options.presets
@options.sets
@options.output
@click.pass_context
def check(
    ctx: click.Context,
    files: tuple[Path, ...],
    preset_names: tuple[str, ...],
    sets: tuple[str, ...],
    output: OutputFormat,
) -> None:
    """Check values files, merged as helm would merge them, and show every finding at once.

    Exit status 2 when one of the findings is an error.
    """
    from mops_helm.render import values_files
    from mops_helm.values import layers
    from mops_helm.values.check import check as check_values
    from mops_helm.values.findings import errors

    findings = check_values(layers.stack(preset_names, files, sets))
    click.echo(values_files.render_findings(findings, [str(path) for path in files], output))
    if findings:
        click.echo(values_files.render_findings_count(findings), err=True)
    if errors(findings):
        ctx.exit(2)


@values.command()
@FILES
@options.presets
@options.sets
@options.output
def explain(
    files: tuple[Path, ...], preset_names: tuple[str, ...], sets: tuple[str, ...], output: OutputFormat
) -> None:
    """Show what values mean: pods, processes, threads, bytes, spill points, and what to look at."""
    from mops_helm.render import values_files
    from mops_helm.values import layers
    from mops_helm.values.explain import explain as explain_values

    merged = layers.resolve(preset_names, files, sets)
    click.echo(values_files.render_explanation(explain_values(merged.values), output))


@values.command()
@click.argument("workspace", type=click.Path(path_type=Path))
def convert(workspace: Path) -> None:
    """Turn a ModelOps workspace.yaml into values; what has no counterpart is said on stderr."""
    from mops_helm import forms
    from mops_helm.values.convert import convert as convert_workspace

    converted, notes = convert_workspace(workspace)
    click.echo(forms.render_yaml(converted), nl=False)
    for note in notes:
        click.echo(note, err=True)
