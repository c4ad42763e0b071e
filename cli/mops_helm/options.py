"""Every option that more than one command has, so that a flag means the same everywhere."""

from pathlib import Path

import click

FORMS = click.Choice(["table", "json", "yaml"])

output = click.option(
    "-o", "--output", type=FORMS, default="table", show_default=True, help="Form of the result."
)

preset = click.option(
    "--preset", "preset_name", metavar="NAME", help="A preset by name (mops-helm preset list)."
)

files = click.option(
    "-f",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A values file; of several, the last wins, as in helm.",
)

sets = click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="One value, as in helm.")

namespace = click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    default="",
    help="Namespace in the cluster.  [default: the context's]",
)

kube_context = click.option(
    "--kube-context", "context", metavar="NAME", default="", help="Another context of the kubeconfig."
)
