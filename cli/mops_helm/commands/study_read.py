"""`mops-helm study status|results|report|verify`: read a store or, with -n, a study in the cluster."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from mops_helm import options, output_file
from mops_helm.forms import OutputFormat
from mops_helm.options import results as results_options

if TYPE_CHECKING:
    from modelops_dask.plan.spec import Spec
    from mops_helm.options.results import ResultsFormat, TableFormat


@click.command()
@options.study
@options.namespace
@options.kube_context
@click.option("--watch", is_flag=True, help="In the cluster: follow the study, and exit with its status.")
@options.request
@options.output
def status(
    *, study: str, namespace: str, context: str, watch: bool, spec_path: Path | None, output: OutputFormat
) -> None:
    """Show a study's tasks by state.

    Failures are listed by reason. This works while the study runs, too. For a study in the cluster: its
    state, its progress, and what blocks it.
    """
    from mops_helm.render import study_summary

    spec = _load_spec(spec_path, namespace, context)
    if namespace or context:
        from mops_helm.commands import study_cluster

        study_cluster.show_status(study, namespace, context, watch=watch, output=output)
        return
    if watch:
        raise click.UsageError("--watch works only for studies in the cluster: add -n NAMESPACE")
    from modelops_dask.store.files import Store
    from modelops_dask.study.summary import read_summary
    from mops_helm.render.self_check import UNKNOWN_ORIGIN, Origin
    from mops_helm.study.command_line import format_flags

    flags = format_flags([("--spec", spec_path)])
    origin = Origin(spec=str(spec_path)) if spec_path else UNKNOWN_ORIGIN
    summary = read_summary(Store(study), spec=spec)
    click.echo(study_summary.render_summary(summary, output, flags, origin))


@click.command()
@options.study
@options.namespace
@options.kube_context
@results_options.table
@results_options.output
@results_options.output_or_table
@results_options.to
@options.request
def results(
    *,
    study: str,
    namespace: str,
    context: str,
    name: str | None,
    output: "ResultsFormat | None",
    output_or_table: str | None,
    to: "Path | TableFormat | None",
    spec_path: Path | None,
) -> None:
    """List the result tables, or write one.

    Without --table, every table is listed with its first rows. `-o csv` and `-o parquet` write one whole
    table to standard output, and --to writes it to a file.
    """
    from mops_helm.study import results as study_tables

    spec = _load_spec(spec_path, namespace, context)
    view = results_options.parse_view(name, output, output_or_table, to)
    if view.table_format == "parquet" and view.path is None:
        study_tables.refuse_terminal(sys.stdout)
    with ExitStack() as stack:
        stream = stack.enter_context(output_file.create_file(view.path)) if view.path else sys.stdout.buffer
        if namespace or context:
            words = results_options.format_view(view)
            if code := _read_in_cluster(study, namespace, context, "results", words, stdout=stream):
                sys.exit(code)
        else:
            _show_tables(study, spec, view, stream)
    if view.path:
        click.echo(view.path)


def _show_tables(
    study: str, spec: "Spec | None", view: results_options.ResultsView, stream: BinaryIO
) -> None:
    from modelops_dask.store.results import opened
    from mops_helm.render import study_results
    from mops_helm.study import results as study_tables

    with opened(study, spec) as tables:
        view = results_options.resolve_view(view, tables.outputs)
        if view.table_format == "parquet" and view.path is None:
            study_tables.refuse_terminal(sys.stdout)
        if not tables.last:
            click.echo(study_tables.EARLIER, err=True)
        if view.table_format:
            study_tables.write_output(tables, view.table, view.table_format, stream)
        else:
            click.echo(study_results.render_results(tables, view.table, view.list_format))
        for line in filter(None, (study_tables.describe_missing_tasks(tables), tables.missing_note)):
            click.echo(line, err=True)


@click.command()
@options.study
@options.namespace
@options.kube_context
@click.option(
    "--to",
    "page_path",
    metavar="FILE",
    default="report.html",
    show_default=True,
    type=output_file.OutputFile(allow_dash=True),
    help="File to write; - for standard output.",
)
@options.request
def report(*, study: str, namespace: str, context: str, page_path: Path, spec_path: Path | None) -> None:
    """Write an HTML report of a study.

    The report shows throughput, time, memory, failures and outcomes by parameter, in one file that needs no
    network. A study that still runs is reported as it is now.
    """
    from io import BytesIO

    spec = _load_spec(spec_path, namespace, context)
    if namespace or context:
        stdout = BytesIO()
        if code := _read_in_cluster(study, namespace, context, "report", ["--to", "-"], stdout=stdout):
            sys.exit(code)
        page = stdout.getvalue()
    else:
        from modelops_dask.report import report as render_report

        page = render_report(study, spec).encode()
    if str(page_path) == "-":
        sys.stdout.buffer.write(page)
        return
    output_file.write_file(page_path, page)
    click.echo(page_path)


@click.command()
@options.study
@options.namespace
@options.kube_context
@click.option(
    "--sample",
    metavar="K",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Run K ok tasks again and compare their bytes.",
)
@options.presets
@options.files
@options.sets
@options.bundle
@options.request
@options.output
def verify(
    *,
    study: str,
    namespace: str,
    context: str,
    sample: int,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    spec_path: Path | None,
    output: OutputFormat,
) -> None:
    """Check the stored results of a study.

    States, counts, seeds, digests and tables are checked by code that is separate from the code that wrote
    them. With --sample, each selected task runs alone in a new process, and then all of them run in one
    process. The values and the bundle determine how they run; in the cluster, the study's own are used. The
    exit status is 0 if there are no problems and every task has ended, and 3 otherwise.
    """
    spec = _load_spec(spec_path, namespace, context)
    if namespace or context:
        if preset_names or files or sets or bundle:
            raise click.UsageError(
                "in the cluster, --sample uses the study's own values and bundle: leave out yours"
            )
        arguments = ["--sample", str(sample), "-o", output]
        sys.exit(_read_in_cluster(study, namespace, context, "verify", arguments, stdout=sys.stdout.buffer))
    from mops_helm.render import study_verification
    from mops_helm.render.self_check import UNKNOWN_ORIGIN, Origin
    from mops_helm.study import studies, verification

    workers = studies.choose_workers(preset_names, files, sets)
    report = verification.verify_study(study, sample, bundle, workers, spec)
    origin = Origin(spec=str(spec_path) if spec_path else UNKNOWN_ORIGIN.spec, bundle=bundle or "")
    click.echo(study_verification.render_verification(report, output, origin))
    sys.exit(3 if report.findings else 0)


def _load_spec(path: Path | None, namespace: str, context: str) -> "Spec | None":
    """The study file of --spec, which selects the tasks; a study in the cluster has its own."""
    if path is None:
        return None
    if namespace or context:
        raise click.UsageError("a study in the cluster has its own study file: leave out --spec")
    from modelops_dask.study import packed

    return packed.load(path)


def _read_in_cluster(
    name: str, namespace: str, context: str, verb: str, arguments: Sequence[str], *, stdout: BinaryIO
) -> int:
    """Run a command of this module where the store of a study in the cluster is visible; return its exit
    status.
    """
    from mops_helm.study import pod_reader

    return pod_reader.read_study_in_cluster(
        name, namespace, context, verb, arguments, stdout=stdout, say=lambda text: click.echo(text, err=True)
    )
