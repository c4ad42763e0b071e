"""Options that more than one command has, so that a flag has one meaning."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click

from mops_helm.forms import OutputFormat

OUTPUT_FORMATS = click.Choice(get_args(OutputFormat))

output = click.option(
    "-o", "--output", type=OUTPUT_FORMATS, default="table", show_default=True, help="Format of the result."
)

presets = click.option(
    "--preset",
    "preset_names",
    metavar="NAME",
    multiple=True,
    help="A preset (mops-helm preset list): one for the workload, one for isolation, or both.",
)

files = click.option(
    "-f",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A values file; if there are several, the last one wins, as in Helm.",
)


def parse_states(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    """failed,poisoned -> its names."""
    states = tuple(dict.fromkeys(text.split(","))) if text else ()
    retried_states = ["failed", "poisoned"]
    if unknown := [state for state in states if state not in retried_states]:
        from mops_helm.values.presets import did_you_mean

        near = did_you_mean(unknown[0], retried_states)
        raise click.BadParameter(f"{unknown[0]!r} is not failed or poisoned{near}")
    return states


def check_redo(_: click.Context, __: click.Parameter, text: str) -> str:
    """The text of --redo, if it is a valid selection."""
    if text:
        from modelops_dask.store.selection import BadSelection, parse_selection

        try:
            parse_selection(text)
        except BadSelection as error:
            raise click.BadParameter(error.problem) from None
    return text


def parse_seconds(_: click.Context, __: click.Parameter, text: str) -> int:
    """The seconds of a duration such as 1h30m, as Helm writes it."""
    import re

    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not text or match is None:
        raise click.BadParameter(f"{text!r} is not a duration; write 90s, 5m or 1h")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def name_command(ctx: click.Context) -> str:
    """The command as a person types it: mops-helm study run."""
    return " ".join(["mops-helm", *ctx.command_path.split()[1:]])


class SpecPath(click.Path):
    """A study file. A store or a directory that is typed instead gets advice."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, exists=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mops_helm.study.mix_ups import describe_wrong_spec

        if param and ctx:
            command = name_command(ctx) if isinstance(param, click.Argument) else max(param.opts, key=len)
            if problem := describe_wrong_spec(str(value), command):
                self.fail(problem, param, ctx)
        return super().convert(value, param, ctx)


SPEC_PATH = SpecPath()

spec = click.argument("spec_path", metavar="SPEC", type=SPEC_PATH)


def study(command: Callable[..., None]) -> Callable[..., None]:
    """STUDY: the store of a study's results or, with -n, the study's name in the cluster."""

    @wraps(command)
    def checked_command(study: str, namespace: str, context: str, **flags: Any) -> None:
        from mops_helm.study.command_line import format_flags
        from mops_helm.study.mix_ups import check_store

        location = format_flags([("-n", namespace), ("--kube-context", context)])
        check_store(study, name_command(click.get_current_context()), location)
        command(study=study, namespace=namespace, context=context, **flags)

    return click.argument("study", metavar="STUDY")(checked_command)


request = click.option(
    "--spec",
    "spec_path",
    metavar="FILE",
    type=SPEC_PATH,
    help="Show the tasks of this study file, even if the store has run another one since.",
)

bundle = click.option(
    "--bundle",
    metavar="REFERENCE",
    help="The model: a directory, an archive or its URL, or HOST/REPOSITORY:TAG (default: `bundle:` in the "
    "study file, or the nearest directory above it that is a bundle).",
)

retry = click.option(
    "--retry",
    metavar="STATES",
    default="",
    callback=parse_states,
    help="Run tasks in these states again: failed,poisoned.",
)

check = click.option(
    "--check",
    "n_checks",
    metavar="N",
    type=click.IntRange(0, 1000),
    default=3,
    show_default=True,
    help="At the end, run N tasks again, each alone in a new process, and compare; 0 turns it off.",
)

redo = click.option(
    "--redo",
    metavar="TASKS",
    default="",
    callback=check_redo,
    help="Replace stored results: executor=KIND (made by that executor), SET/REPLICATE,... or all.",
)

sets = click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="A single value, as in Helm.")

namespace = click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    default="",
    help="Kubernetes namespace (default: the current context's).",
)

kube_context = click.option(
    "--kube-context", "context", metavar="NAME", default="", help="Context of the kubeconfig to use."
)
