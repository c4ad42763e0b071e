"""`mops-helm study new`; study.py adds it to its group."""

from pathlib import Path

import click

from modelops_dask.documents.quoting import quote_path


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "function",
    metavar="FILE:FUNCTION",
    help="Start from an existing function, such as model.py:simulate: write a study file next to it, and "
    "pyproject.toml if no file declares packages. No file is overwritten.",
)
def new(folder: Path | None, function: str | None) -> None:
    """Start a study from an example or your code.

    Without --from, DIR is a new folder for an example that runs at once. With it, DIR is the folder that
    becomes the bundle, by default that of FILE or of the package that FILE is in.
    """
    from mops_helm import scaffold
    from mops_helm.scaffold import existing

    if function:
        study = existing.create_study(function, folder)
        for note in study.notes:
            click.echo(note, err=True)
        _show(study.files, ("try", study.files[0]), ("run", study.files[0]))
    elif folder:
        results = Path("out") / folder.resolve().name
        _show(scaffold.create(folder), ("run", folder / "study.yaml"), ("results", results))
    else:
        raise click.UsageError("Name a new folder, or an existing function: --from FILE:FUNCTION")


def _show(files: list[Path], *commands: tuple[str, Path]) -> None:
    """Print the written files, and what to type next."""
    for path in files:
        click.echo(path)
    lines = [f"  mops-helm study {name} {quote_path(path)}" for name, path in commands]
    click.echo("\n".join(["", "Next:", *lines]), err=True)
