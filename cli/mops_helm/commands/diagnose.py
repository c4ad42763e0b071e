"""`mops-helm diagnose SPEC`, also available as `mops-helm preset diagnose --study SPEC`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from mops_helm import options, output_file
from mops_helm.forms import OutputFormat

if TYPE_CHECKING:
    from mops_helm.diagnose.experiment import DiagnosisRequest
    from mops_helm.diagnose.questions import Question


@click.command()
@click.argument("spec_argument", metavar="[SPEC]", required=False, type=options.SPEC_PATH)
@click.option(
    "--study", "spec_option", metavar="SPEC", type=options.SPEC_PATH, help="The same as the argument SPEC."
)
@click.option(
    "--tasks",
    metavar="N",
    type=click.IntRange(2),
    default=24,
    show_default=True,
    help="Number of tasks, spread over the study, that run in each way.",
)
@click.option(
    "--repeats",
    metavar="R",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="Number of times that each way of running is tried, in different orders.",
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
    callback=options.parse_seconds,
    help="Stop after this time, with the evidence collected by then: 90s, 10m, 1h.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed that selects the tasks and their orders."
)
@click.option(
    "--release",
    metavar="RELEASE",
    default="",
    help="Run in the cluster, in a temporary pod with the image, variables and memory of RELEASE's workers.",
)
@options.namespace
@options.kube_context
@options.presets
@options.files
@options.sets
@options.bundle
@click.option(
    "--store",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the diagnosis output.  [default: out/NAME-diagnosis]",
)
@click.option(
    "--report",
    "report_path",
    metavar="FILE",
    type=output_file.OutputFile(),
    help="Write an HTML page of the diagnosis.",
)
@click.option(
    "--write",
    "values_path",
    metavar="FILE",
    type=output_file.OutputFile(),
    help="Write the values to use until the cause is fixed.",
)
@click.option("--explain", is_flag=True, help="Print how verdicts are reached, and run nothing.")
@click.option("--answer", "answer_texts", metavar="KEY=VALUE", multiple=True, help="Answer a question.")
@click.option(
    "--answers",
    "answers_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the answers.  [default: in ~/.local/state]",
)
@options.output
def diagnose(
    *,
    spec_argument: Path | None,
    spec_option: Path | None,
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
    folder: Path | None,
    report_path: Path | None,
    values_path: Path | None,
    explain: bool,
    answer_texts: Sequence[str],
    answers_path: Path | None,
    output: OutputFormat,
) -> None:
    """Find the cause of odd results.

    With SPEC, the same tasks run in ways that share less or more: a process, an environment, a worker,
    threads, time. Comparing which ways of running disagree reveals the cause, and the preset to use until it
    is fixed. Environment, memory and variables of tasks follow from the values, as for study run; with
    --release they are the release's. The exit status is 0 if the model is healthy, and 3 otherwise.

    Without SPEC, the command asks questions that lead to the next preset to try, and stores the answers.
    """
    if explain:
        from mops_helm.render import diagnosis_text

        click.echo(diagnosis_text.render_reasoning(output))
        return
    if spec_argument and spec_option:
        raise click.UsageError("SPEC and --study name two study files; leave out one")
    spec_path = spec_argument or spec_option
    if spec_path is None:
        experiment_flags = {"--report": report_path, "--write": values_path, "--release": release}
        if used_flags := [name for name, value in experiment_flags.items() if value]:
            raise click.UsageError(f"{used_flags[0]} needs an experiment: add SPEC")
        _ask_questions(answer_texts, answers_path, output)
        return
    if (namespace or context) and not release:
        raise click.UsageError("-n and --kube-context locate a release: add --release RELEASE")
    if answer_texts or answers_path:
        raise click.UsageError("--answer and --answers are for the questions: leave out SPEC")
    from modelops_dask.plan import spec
    from mops_helm.diagnose import experiment, study_diagnosis

    study = spec.load(spec_path)
    folder = study_diagnosis.choose_folder(study, folder)
    if release and (preset_names or files or sets):
        raise click.UsageError(
            f"Release {release} has its own values: leave out --preset, -f and --set, or leave out "
            "--release to run on this machine"
        )
    request = experiment.DiagnosisRequest(
        study=study,
        bundle=bundle,
        options=study_diagnosis.ExperimentOptions(
            tasks=tasks, repeats=repeats, arms=arms, budget_seconds=budget_seconds, seed=seed
        ),
        release=release,
        namespace=namespace,
        context=context,
        preset_names=preset_names,
        files=files,
        sets=sets,
    )
    _run_experiment(request, folder, values_path, report_path, output)


def _run_experiment(
    request: "DiagnosisRequest",
    folder: Path,
    values_path: Path | None,
    report_path: Path | None,
    output: OutputFormat,
) -> NoReturn:
    from modelops_dask.errors import BadInput
    from mops_helm.diagnose import experiment, study_diagnosis
    from mops_helm.render import diagnosis_page, diagnosis_questions, diagnosis_text

    result, release = experiment.diagnose_study(request, _say)
    diagnosis = result.diagnosis
    trial = study_diagnosis.make_trial(diagnosis)
    apply_command = diagnosis_questions.render_upgrade_command(trial, release)
    texts = {
        values_path: lambda: diagnosis_text.render_values(diagnosis),
        report_path: lambda: diagnosis_page.render_diagnosis_page(result, apply_command),
    }
    files_written = study_diagnosis.write_files(result, folder, texts, _say)
    click.echo(diagnosis_text.render_diagnosis(result, apply_command, files_written.folder, output))
    if files_written.errors:
        raise BadInput("\n".join(map(str, files_written.errors)))
    sys.exit(0 if diagnosis.verdict == "healthy" else 3)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _ask_questions(texts: Sequence[str], answers_path: Path | None, output: OutputFormat) -> None:
    from mops_helm.diagnose import experiment, questions
    from mops_helm.render import diagnosis_questions

    step = questions.find_next_step(texts, answers_path or questions.default_answers_path(), _ask)
    click.echo(diagnosis_questions.render_step(step, experiment.find_release(), output))


def _ask(question: "Question") -> str:
    """Return one of the possible answers; "" for none, or without a terminal."""
    from mops_helm.render import diagnosis_questions

    if not sys.stdin.isatty():
        return ""
    click.echo(diagnosis_questions.render_question(question), err=True)
    answer: str = click.prompt(
        "Answer",
        type=click.Choice(["", *question.then]),
        default="",
        show_default=False,
        show_choices=False,
        err=True,
    )
    return answer
