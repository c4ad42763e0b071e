"""Make the reference pages of docs/ that code can write.

    the command tree                       -> cli-options.md
    schemas/values.schema.yaml, Settings   -> environment-variables.md
    Study, run, Result, readers of stores  -> python-api.md
    schemas/study.schema.yaml              -> the table of fields in study-file.md
    schemas/findings.yaml                  -> the tables in values-findings.md and study-findings.md

`reference_pages.py` writes them; `reference_pages.py --check` changes nothing and fails when one has drifted.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parent))
import generate

from modelops_dask import diagnose
from modelops_dask.settings import ELSEWHERE, Settings
from modelops_dask.store import results
from modelops_dask.study import api
from mops_helm.codes import FileKind, load_codes
from mops_helm.main import main as commands

DOCS = generate.ROOT / "docs"
STUDY_SCHEMA = generate.ROOT / "schemas" / "study.schema.yaml"
MARK = "<!-- Made by `make generate`. -->"
END = "<!-- end -->"
VARIABLES = """\
# Environment variables

{mark}

A worker process reads these variables when it starts. The chart sets those that have a value. On your
machine, `mops-helm study run` sets them from `--preset`, `-f` and `--set`. A variable that looks like a
misspelling of one of them is refused.

| variable | value of the chart | default |
|---|---|---|
{rows}

## Variables of ModelOps that are refused

[ModelOps](glossary.md#the-model) reads these variables. They have no effect here, so a worker that has one
does not start.

| variable | what to use instead |
|---|---|
{refused}
"""
API: dict[str, Callable[..., Any]] = {
    "modelops_dask.Study": api.Study,
    "modelops_dask.Study.load": api.Study.load,
    "modelops_dask.Study.with_model": api.Study.with_model,
    "modelops_dask.run": api.run,
    "modelops_dask.Result": api.Result,
    "modelops_dask.Result.table": api.Result.table,
    "modelops_dask.store.results.results": results.results,
    "modelops_dask.store.results.output": results.output,
    "modelops_dask.store.results.opened": results.opened,
    "modelops_dask.diagnose.diagnose": diagnose.diagnose,
}


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit("usage: reference_pages.py [--check]")
    drifted = [path for path, text in make_pages().items() if not path.exists() or path.read_text() != text]
    if not check:
        for path in drifted:
            path.write_text(make_pages()[path])
    if drifted:
        names = ", ".join(str(path.relative_to(generate.ROOT)) for path in drifted)
        print(("Out of date, run `make generate`: " if check else "Wrote ") + names)
    return 1 if check and drifted else 0


def make_pages() -> dict[Path, str]:
    """Every page that is made here, whole or in part, and the text it should have."""
    study_file = DOCS / "study-file.md"
    values_findings, study_findings = DOCS / "values-findings.md", DOCS / "study-findings.md"
    return {
        DOCS / "cli-options.md": render_options(),
        DOCS / "environment-variables.md": render_variables(),
        DOCS / "python-api.md": render_api(),
        study_file: replace_table(study_file.read_text(), render_fields()),
        values_findings: replace_table(values_findings.read_text(), render_codes("values")),
        study_findings: replace_table(study_findings.read_text(), render_codes("study")),
    }


def render_options() -> str:
    lines = [
        "# Options of all commands",
        "",
        f"{MARK}",
        "",
        "This page lists every command with its arguments and options, as `--help` does. [Commands](cli.md)",
        "describes what the commands do, and lists the exit statuses.",
    ]
    for name, command in list_commands(commands, "mops-helm"):
        context = click.Context(command, info_name=name)
        lines += ["", f"## {name}", "", *(command.help or "").partition("\n\n")[0].split("\n"), ""]
        lines += ["```text", " ".join([name, *command.collect_usage_pieces(context)]), "```", ""]
        records = [parameter.get_help_record(context) for parameter in command.params]
        rows = [f"| `{escape(flag)}` | {escape(text)} |" for flag, text in filter(None, records)]
        lines += ["| option | meaning |", "|---|---|", *rows] if rows else ["It has no options."]
    return "\n".join(lines) + "\n"


def list_commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that is not a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from list_commands(command, f"{prefix} {name}")
        elif command is not None and not command.hidden:
            yield f"{prefix} {name}", command


def render_variables() -> str:
    schema = YAML(typ="safe").load(generate.SCHEMA)
    values = dict(generate.variables(schema, schema))
    rows = []
    for item in fields(Settings):
        name = item.metadata["env"]
        rows.append(f"| `{name}` | {name_value(values.pop(name, ''))} | {default_of(item)} |")
    if values:
        unread = ", ".join(f"{name} (x-env of {path})" for name, path in values.items())
        sys.exit(f"no field of Settings in engine/modelops_dask/settings.py reads {unread}")
    refused = [f"| `{name}` | {escape(text)} |" for name, text in ELSEWHERE.items()]
    return VARIABLES.format(mark=MARK, rows="\n".join(rows), refused="\n".join(refused))


def name_value(path: str) -> str:
    return f"`{path}`" if path else "none"


def default_of(item: Any) -> str:
    if item.default is MISSING:
        return "a folder of the user's cache"
    return f"`{json.dumps(item.default)}`" if item.default != "" else "empty"


def render_api() -> str:
    lines = [
        "# Python API",
        "",
        MARK,
        "",
        "These names keep their meaning within a version. [python.md](python.md) shows their use.",
    ]
    for name, item in API.items():
        lines += ["", f"## {name}", "", "```text", render_signature(name, item), "", document(item), "```"]
    return "\n".join(lines) + "\n"


def render_signature(name: str, item: Callable[..., Any]) -> str:
    """The call as one types it: without self, without modules of types, without the body of a default."""
    parameters = inspect.signature(item).parameters
    arguments = []
    for parameter in parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        default = "..." if callable(parameter.default) and parameter.default is not parameter.empty else None
        text = str(parameter.replace(default=parameter.empty) if default else parameter)
        text = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text).replace("'", "")
        arguments.append(text + (f" = {default}" if default else ""))
    arguments = [argument for argument in arguments if argument != "self"]
    short = name.rpartition(".")[2]
    if len(", ".join(arguments)) < 80:
        return f"{short}({', '.join(arguments)})"
    return "\n".join([f"{short}(", *(f"    {argument}," for argument in arguments), ")"])


def document(item: Any) -> str:
    return inspect.getdoc(item) or ""


def render_fields() -> str:
    schema = YAML(typ="safe").load(STUDY_SCHEMA)
    rows = [
        f"| `{name}` | {escape(' '.join(field['description'].split()) if 'description' in field else '')} |"
        for name, field in schema["properties"].items()
    ]
    return "\n".join(["| field | meaning |", "|---|---|", *rows])


def render_codes(kind: FileKind) -> str:
    """The codes of findings in one kind of file, as a table."""
    head = "| Code | Severity | What it means | Example |\n|---|---|---|---|\n"
    return head + "\n".join(
        f"| `{doc.code}` | {doc.severity} | {escape(doc.meaning)} | {escape(doc.example)} |"
        for doc in load_codes()
        if doc.kind == kind
    )


def replace_table(page: str, table: str) -> str:
    """The page with this table between the two marks."""
    head, mark, rest = page.partition(MARK)
    _, end, tail = rest.partition(END)
    assert mark and end, f"{page[:40]!r}: the page has lost the marks around its table"
    return f"{head}{MARK}\n{table}\n{END}{tail}"


def escape(text: str) -> str:
    """Text that can stand in a table's cell."""
    return re.sub(r"(?<!\\)([|])", r"\\\1", text).replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
