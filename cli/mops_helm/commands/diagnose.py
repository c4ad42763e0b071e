"""`mops-helm preset diagnose`; preset.py adds it to its group."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mops_helm import options, writing

LOOK_SECONDS = 3  # for a cluster that may name a release


@click.command()
@click.option(
    "--study",
    "spec_path",
    metavar="SPEC",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The study whose results are odd: find out by experiment. Without it, questions are asked.",
)
@click.option(
    "--tasks",
    metavar="N",
    type=click.IntRange(2),
    default=24,
    show_default=True,
    help="How many of its tasks to run, from all over the study.",
)
@click.option(
    "--repeats",
    metavar="R",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="Times that each way of running them is tried, in other orders.",
)
@click.option(
    "--arms",
    metavar="A,B",
    default="",
    callback=lambda _, __, text: tuple(filter(None, text.split(","))),
    help="Only these ways of running tasks (--explain lists them), beside the reference.",
)
@click.option(
    "--budget",
    "budget_seconds",
    metavar="DURATION",
    default="10m",
    show_default=True,
    callback=options.seconds,
    help="Stop after so long, with what is known by then: 90s, 10m, 1h.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which tasks, in which orders.")
@click.option(
    "--release",
    metavar="RELEASE",
    default="",
    help="Run in the cluster, in a temporary pod with image, environment and memory of RELEASE's workers.",
)
@options.namespace
@options.kube_context
@options.presets
@options.files
@options.sets
@options.bundle
@click.option(
    "--store",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where what was seen is kept.  [default: out/NAME-diagnosis]",
)
@click.option("--report", metavar="FILE", type=writing.File(), help="Write an HTML page of the diagnosis.")
@click.option("--write", metavar="FILE", type=writing.File(), help="Write the values to use meanwhile.")
@click.option("--explain", is_flag=True, help="Print how verdicts are reached; run nothing.")
@click.option("--answer", "given", metavar="KEY=VALUE", multiple=True, help="Answer a question.")
@click.option(
    "--answers",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where answers are kept.  [default: in ~/.local/state]",
)
@options.output
def diagnose(
    spec_path: Path | None,
    tasks: int,
    repeats: int,
    arms: Sequence[str],
    budget_seconds: int,
    seed: int,
    release: str,
    namespace: str,
    context: str,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    store: Path | None,
    report: Path | None,
    write: Path | None,
    explain: bool,
    given: Sequence[str],
    answers: Path | None,
    output: str,
) -> None:
    """Find out which isolation a bug needs: by experiment with a study, or by questions.

    The same tasks run in ways that share less or more: a process, an environment, a worker, threads, time.
    What differs tells the cause, and the preset to use until it is mended. The values say, as for study
    run, which environment, memory and variables tasks have; with --release they are the release's. Exit
    status 0 when it is healthy, else 3.

    Without --study, questions lead to the next preset to try; answers are kept for the next call.
    """
    if explain:
        from mops_helm import render_diagnose

        click.echo(render_diagnose.reasoning(output))
        return
    if spec_path is None:
        needing = {"--report": report, "--write": write, "--release": release}
        if words := [name for name, value in needing.items() if value]:
            raise click.UsageError(f"{words[0]} needs an experiment: add --study SPEC")
        _questions(given, answers, output)
        return
    if (namespace or context) and not release:
        raise click.UsageError("-n and --kube-context say where --release is")
    if given or answers:
        raise click.UsageError("--answer and --answers are for questions, which are asked without --study")
    from modelops_dask.errors import BadInput
    from modelops_dask.study import spec
    from mops_helm import diagnosing, helm, page_diagnose, render_diagnose, render_questions, studies

    def say(text: str) -> None:
        click.echo(text, err=True)

    asked = {
        "tasks": tasks,
        "repeats": repeats,
        "arms": arms,
        "budget_seconds": budget_seconds,
        "seed": seed,
    }
    study = spec.load(spec_path)
    folder = diagnosing.folder_for(study, store)
    if release:
        from modelops_dask.kube.connect import connect
        from mops_helm import diagnosing_release

        if preset_names or files or sets:
            raise click.UsageError(
                f"Release {release} has values of its own: leave out --preset, -f and --set, or leave out "
                "--release to run on this machine"
            )
        cluster = connect(context, namespace)
        place = helm.Place(release, cluster.namespace, context)
        done = diagnosing_release.run(cluster, release, study, bundle, say, **asked)
    else:
        done = diagnosing.run(study, bundle, studies.workers(preset_names, files, sets), say, **asked)
        place = helm.only_release(LOOK_SECONDS)
    found, kept = done.found, folder
    apply = render_questions.upgrade(diagnosing.trial(found), place)
    texts = {write: lambda: render_diagnose.values(found), report: lambda: page_diagnose.page(done, apply)}
    failed: list[BadInput] = []  # said at the end: what was found took minutes, and is printed all the same
    try:
        diagnosing.keep(done, folder)
    except BadInput as error:
        kept = None
        failed.append(error)
    for path, text in texts.items():
        if path:
            try:
                writing.write(path, text().encode())
                say(f"{path}: written")
            except BadInput as error:
                failed.append(error)
    click.echo(render_diagnose.diagnosis(done, apply, kept, output))
    if failed:
        raise BadInput("\n".join(map(str, failed)))
    sys.exit(0 if found.verdict == "healthy" else 3)


def _questions(given: Sequence[str], answers_file: Path | None, output: str) -> None:
    """Ask, on a terminal, until a preset has to be tried or the tree ends; say what to do."""
    from modelops_dask.errors import BadInput
    from mops_helm import helm, questions, render_questions

    kept, tree = answers_file or questions.kept_in(), questions.tree()
    answers = questions.read(kept) | tree.check(given)
    if given:
        questions.write(kept, answers)
    used, node = tree.walk(answers)
    while isinstance(node, questions.Question):
        if sys.stdin.isatty() and (said := _ask(render_questions.question(node), list(node.then))):
            answers[node.key] = said
            questions.write(kept, answers)
            used, node = tree.walk(answers)
        elif node.trial:  # not tried yet: that is what to do next
            break
        else:
            raise BadInput(render_questions.missing(node))
    click.echo(render_questions.step(node, used, helm.only_release(LOOK_SECONDS), kept, output))


def _ask(text: str, possible: Sequence[str]) -> str:
    """One of the possible answers; "" for none."""
    click.echo(text, err=True)
    return click.prompt(
        "Answer",
        type=click.Choice(["", *possible]),
        default="",
        show_default=False,
        show_choices=False,
        err=True,
    )
