"""`mops-helm study status|results|report|verify`: what a store or, with -n, a study in the cluster holds."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mops_helm import options, writing

if TYPE_CHECKING:
    from modelops_dask.study.spec import Spec


@click.command()
@options.study
@options.namespace
@options.kube_context
@click.option("--watch", is_flag=True, help="In the cluster: follow it, and end with its exit status.")
@options.request
@options.output
def status(
    study: str, namespace: str, context: str, watch: bool, spec_path: Path | None, output: str
) -> None:
    """Tasks by state and failures by reason, also while the study runs.

    Of a study in the cluster: its state, how far it is, and what is in its way.
    """
    from mops_helm import render_study

    spec = _spec(spec_path, namespace, context)
    if namespace or context:
        from mops_helm.commands import study_cluster

        study_cluster.show(study, namespace, context, watch, output)
        return
    if watch:
        raise click.UsageError("--watch is for studies in the cluster: add -n NAMESPACE")
    from modelops_dask.store.files import Files
    from modelops_dask.study import summary

    flags = f"--spec {shlex.quote(str(spec_path))}" if spec_path else ""
    click.echo(render_study.summary(summary.status(Files(study), spec=spec), output, flags))


@click.command()
@options.study
@options.namespace
@options.kube_context
@click.option("--output", "name", metavar="NAME", help="One output only.")
@click.option(
    "--to", type=click.Choice(["csv", "parquet"]), help="Write that output whole to standard output."
)
@options.request
@click.option("-o", "form", type=options.FORMS, default="table", show_default=True, help="Form of the list.")
def results(
    study: str,
    namespace: str,
    context: str,
    name: str | None,
    to: str | None,
    spec_path: Path | None,
    form: str,
) -> None:
    """The outputs of a study: their files and first rows, or one whole as CSV or Parquet."""
    from mops_helm import render_study, study_results

    spec = _spec(spec_path, namespace, context)
    if to == "parquet":
        study_results.refuse_terminal(sys.stdout)
    if namespace or context:
        words = [*(["--output", name] if name else []), *(["--to", to] if to else ["-o", form])]
        sys.exit(_in_cluster(study, namespace, context, "results", words, sys.stdout.buffer))
    from modelops_dask.store.results import opened

    with opened(study, spec) as tables:
        if not tables.last:
            click.echo(study_results.EARLIER, err=True)
        if to:
            study_results.write(tables, name, to, sys.stdout.buffer)
        else:
            click.echo(render_study.results(tables, name, form))
        if line := study_results.left_out(tables):
            click.echo(line, err=True)


@click.command()
@options.study
@options.namespace
@options.kube_context
@click.option(
    "--to",
    metavar="FILE",
    default="report.html",
    show_default=True,
    type=writing.File(allow_dash=True),
    help="The file to write; - for standard output.",
)
@options.request
def report(study: str, namespace: str, context: str, to: Path, spec_path: Path | None) -> None:
    """Write an HTML page of a study: throughput, time, memory, failures, outcome by parameters.

    One file that needs no network. A study that still runs is reported as it is now.
    """
    from io import BytesIO

    spec = _spec(spec_path, namespace, context)
    if namespace or context:
        written = BytesIO()
        if code := _in_cluster(study, namespace, context, "report", ["--to", "-"], written):
            sys.exit(code)
        page = written.getvalue()
    else:
        from modelops_dask.report import report as render

        page = render(study, spec).encode()
    if str(to) == "-":
        sys.stdout.buffer.write(page)
        return
    writing.write(to, page)
    click.echo(to)


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
    help="Run K of its ok tasks again and compare their bytes.",
)
@options.presets
@options.files
@options.sets
@options.bundle
@options.request
@options.output
def verify(
    study: str,
    namespace: str,
    context: str,
    sample: int,
    preset_names: Sequence[str],
    files: Sequence[Path],
    sets: Sequence[str],
    bundle: str | None,
    spec_path: Path | None,
    output: str,
) -> None:
    """Check a study by other means than those that ran it: states, counts, seeds, digests, tables.

    Exit status 0 when nothing is wrong and every task has ended, else 3. The values and the bundle are for
    --sample; each task runs with the executor that it ran with. In the cluster they are the study's own.
    """
    spec = _spec(spec_path, namespace, context)
    if namespace or context:
        if preset_names or files or sets or bundle:
            raise click.UsageError("in the cluster, --sample runs with the study's own values and bundle")
        words = ["--sample", str(sample), "-o", output]
        sys.exit(_in_cluster(study, namespace, context, "verify", words, sys.stdout.buffer))
    from modelops_dask.store.files import Files
    from modelops_dask.store.requests import plan_of
    from mops_helm import render_study, studies, study_verify

    request = plan_of(Files(study), spec).request if spec else None
    found = study_verify.check(study, sample, bundle, studies.workers(preset_names, files, sets), request)
    click.echo(render_study.verified(found, output))
    sys.exit(3 if found.findings else 0)


def _spec(path: Path | None, namespace: str, context: str) -> "Spec | None":
    """The study file of --spec, whose tasks are meant; a study in the cluster has one of its own."""
    if path is None:
        return None
    if namespace or context:
        raise click.UsageError("a study in the cluster has its own study file: leave out --spec")
    from modelops_dask.study import packed

    return packed.load(path)


def _in_cluster(name: str, namespace: str, context: str, verb: str, words: Sequence[str], stdout) -> int:
    """Type a command of this module where the store of a study in the cluster is seen."""
    from modelops_dask.kube import connect, submitted
    from mops_helm import reading

    cluster = connect.connect(context, namespace)
    found = submitted.find(cluster, name)
    more = reading.rerun_words(found) if "--sample" in words and words[1] != "0" else []
    code = reading.run(cluster, found, verb, [*words, *more], stdout, lambda text: click.echo(text, err=True))
    stdout.flush()
    return code
