"""`mops-helm study new`; study.py adds it to its group."""

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Start a bundle and a study in a new folder. They run at once; model.py is the place for yours."""
    from mops_helm import scaffold

    for path in scaffold.create(folder):
        click.echo(path)
    spec = shlex.quote(str(folder / "study.yaml"))
    results = shlex.quote(str(Path("out") / folder.resolve().name))
    click.echo(f"\nNext:\n  mops-helm study run {spec}\n  mops-helm study results {results}", err=True)
