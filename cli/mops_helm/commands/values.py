"""mops-helm values: check, explain, convert."""

import sys
from pathlib import Path

import click

from mops_helm import options
from mops_helm.forms import OutputFormat

FILES = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group()
def values() -> None:
    """Check, explain and convert values files."""


@values.command()
@FILES
@click.option("--fix", is_flag=True, help="Correct the files where only one correction is possible.")
@options.presets
@options.sets
@options.output
@click.pass_context
def check(
    ctx: click.Context,
    *,
    files: tuple[Path, ...],
    fix: bool,
    preset_names: tuple[str, ...],
    sets: tuple[str, ...],
    output: OutputFormat,
) -> None:
    """Check values files.

    The files are merged as Helm would merge them, and every finding is shown at once. The exit status is 2 if
    one of the findings is an error.

    With --fix, misspelled names, wrong units of memory and missing quotes are corrected in the files, if only
    one correction is possible. Everything else in the files stays as it is.
    """
    from mops_helm.render import values_files
    from mops_helm.values import layers
    from mops_helm.values.check import check as check_values
    from mops_helm.values.findings import errors
    from mops_helm.values.fix import count_fixable, fix_files

    if fix and (streams := [path for path in files if str(path) == "-" or _is_stream(path)]):
        raise click.UsageError(f"{streams[0]} is not a file that --fix can correct. Save it in a file first.")
    names = [str(path) for path in files]
    corrections = (
        fix_files(files, lambda: check_values(layers.stack(preset_names, files, sets))) if fix else ()
    )
    findings = check_values(layers.stack(preset_names, files, sets))
    on_terminal = sys.stdout.isatty()
    if fix:
        text = values_files.render_fix(corrections, findings, names, output, on_terminal=on_terminal)
    else:
        text = values_files.render_check(findings, names, output, on_terminal=on_terminal)
    click.echo(text)
    if findings:
        click.echo(
            values_files.render_findings_count(findings, files, count_fixable(files, findings)), err=True
        )
    if errors(findings):
        ctx.exit(2)


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


@values.command()
@FILES
@options.presets
@options.sets
@options.output
def explain(
    files: tuple[Path, ...], preset_names: tuple[str, ...], sets: tuple[str, ...], output: OutputFormat
) -> None:
    """Explain the meaning of values.

    The pods, processes, threads, bytes and spill points of each pool are shown, with advice.
    """
    from mops_helm.render import values_files
    from mops_helm.values import layers
    from mops_helm.values.explain import explain as explain_values

    merged = layers.resolve(preset_names, files, sets)
    click.echo(values_files.render_explanation(explain_values(merged.values), output))


@values.command()
@click.argument("workspace", type=click.Path(path_type=Path))
def convert(workspace: Path) -> None:
    """Convert a ModelOps workspace to values.

    Settings of workspace.yaml that have no counterpart are named on standard error.
    """
    from mops_helm import forms
    from mops_helm.values.convert import convert as convert_workspace

    converted, notes = convert_workspace(workspace)
    click.echo(forms.render_yaml(converted), nl=False)
    for note in notes:
        click.echo(note, err=True)
