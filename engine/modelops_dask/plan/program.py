"""The program that a study runs instead of a Python function: `command` and the fields that belong to it.

    command, environment, parameters_file, outputs -> findings, or a program: canonical JSON of the four
    a program, scenario -> its entrypoint: command.sha_DIGEST/SCENARIO; another command is another study

    {"command": ["./model", "{r0}", "{seed}"],
     "environment": {"R0": "{r0}"},                              if there is any
     "parameters_file": "params.json",                           if there is one
     "outputs": {"curve": {"file": "out/curve.csv", "format": "csv"}}}

The study file is not part of the bundle's digest, so the entrypoint identifies the command that made the
results. This module does not read the bundle or start programs: executors/programs.py does.
"""

import difflib
import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import Any

from modelops_dask.documents.nodes import NodePath
from modelops_dask.placeholders import format_value, list_names
from modelops_dask.plan import contract
from modelops_dask.plan.document import NAME
from modelops_dask.plan.fields import Fields
from modelops_dask.plan.sampling import Explicit, Grid, Sampling

OWN_NAMES = ("command", "environment", "parameters_file")
NAMES = (*OWN_NAMES, "outputs")  # for a model, the outputs to store
TASK_NAMES = ("seed", "scenario", "threads")  # placeholders that every task has
PARAMETERS_FILE = "parameters_file"  # the placeholder for the path of that file
STDOUT = "-"  # instead of an output's file: the program's standard output
FORMATS = ("csv", "json", "parquet", "raw")
MOST_BYTES = 64 * 1024  # of a program, because a runner receives it as an argument
MOST_FINDINGS = 20  # findings per kind: a generated file may have the same mistake in each of a million sets
_PREFIX = "command.sha_"
_ENTRYPOINT = re.compile(r"command\.sha_[0-9a-f]{12}/.*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL = re.compile(r"[|<>&;`$*]")


def make_entrypoint(program: str, scenario: str) -> str:
    """The entrypoint of a program, which includes a digest of its definition."""
    return f"{_PREFIX}{hashlib.sha256(program.encode()).hexdigest()[:12]}/{scenario}"


def is_entrypoint_of(entrypoint: str, program: str) -> bool:
    """Whether an entrypoint belongs to a program, or to a function if the program is ""."""
    if not program:
        return not _ENTRYPOINT.fullmatch(entrypoint)
    return entrypoint == make_entrypoint(program, entrypoint.partition("/")[2])


def render_command(program: str) -> str:
    """The command as typed, with its placeholders."""
    return shlex.join(json.loads(program)["command"])


def describe_difference(program: str, other: str) -> tuple[str, str]:
    """The differences between two programs, in terms of a study file."""
    one_fields, other_fields = (json.loads(text) if text else {} for text in (program, other))
    names = [name for name in NAMES if one_fields.get(name) != other_fields.get(name)]

    def render(fields: dict[str, object]) -> str:
        texts = [
            f"{name}: {json.dumps(fields[name], ensure_ascii=False)}" for name in names if name in fields
        ]
        return ", ".join(texts) or f"one without {' and '.join(names)}"

    return render(one_fields), render(other_fields)


def read_program(
    fields: Fields, raw: dict[str, object], sampling: Sampling | None, fixed: dict[str, object]
) -> str | None:
    """Read the program of a study file, and record its findings; None if it cannot be used."""
    n_findings = len(fields.findings)
    parameters_file = fields.text(raw, (), PARAMETERS_FILE, default=None)
    if parameters_file is not None:
        _check_path(fields, (PARAMETERS_FILE,), parameters_file)
    program: dict[str, object] = {
        "command": _read_command(fields, raw),
        "environment": _read_environment(fields, raw),
        PARAMETERS_FILE: parameters_file,
        "outputs": _read_outputs(fields, raw),
    }
    program = {name: value for name, value in program.items() if value}
    if sampling is not None:
        is_read = len(fields.findings) == n_findings
        _check_placeholders(fields, raw, program, {*sampling.names, *fixed}, is_read=is_read)
        _check_values(fields, program, sampling, fixed)
    if len(fields.findings) > n_findings:
        return None
    text = contract.canonical(program)
    if len(text.encode()) > MOST_BYTES:
        message = (
            f"a command of {len(text.encode()):,} bytes; the limit is {MOST_BYTES:,}. Put it into a file"
        )
        fields.note(("command",), "TOO_LARGE", message)
        return None
    return text


def _read_command(fields: Fields, raw: dict[str, object]) -> list[str]:
    command = raw["command"]
    if isinstance(command, str):
        fields.note(("command",), "TYPE", _advise_list(command))
        return []
    if not isinstance(command, list) or not command:
        message = 'command must be a list: the program, then its arguments, such as [./model, "{seed}"]'
        fields.note(("command",), "EMPTY" if command in ([], None) else "TYPE", message)
        return []
    texts = []
    for number, item in enumerate(command):
        text = _read_text(fields, ("command", number), item)
        if number == 0 and text == "":
            fields.note(("command", 0), "EMPTY", "the first item of command is the program; write its name")
        elif number == 0 and text and ".." in PurePosixPath(text).parts:
            fields.note(
                ("command", 0), "VALUE", f"{text!r} leads outside the bundle; put the program into the bundle"
            )
        texts.append(text or "")
    return texts


def _advise_list(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # unclosed quotes
        words = command.split()
    if _SHELL.search(command):
        words = ["sh", "-c", command]
    return f"command must be a list, because no shell reads it; write {json.dumps(words, ensure_ascii=False)}"


def _read_text(fields: Fields, node_path: NodePath, value: object) -> str | None:
    """Text with placeholders; a number or a boolean becomes the text of an argument."""
    if value is None:
        fields.note(node_path, "EMPTY", 'the value is missing; write text, or "" for an empty text')
        return None
    try:
        text = format_value(value)
    except ValueError:
        fields.note(node_path, "TYPE", f"must be text, not {value!r}{_advise_quotes(value)}")
        return None
    try:
        list_names(text)
    except ValueError as error:
        fields.note(
            node_path, "PLACEHOLDER", f"{error}; write {{NAME}} for a value, {{{{ or }}}} for a brace"
        )
    return text


def _advise_quotes(value: object) -> str:
    """What to write if YAML has read an unquoted {NAME} as a mapping."""
    if isinstance(value, dict) and len(value) == 1 and set(value.values()) == {None}:
        return f'; write "{{{next(iter(value))}}}", in quotes, for the value of a parameter'
    return ""


def _read_environment(fields: Fields, raw: dict[str, object]) -> dict[str, str]:
    variables = {}
    for name, value in (fields.mapping(raw, (), "environment") or {}).items():
        node_path: NodePath = ("environment", name)
        if not _VARIABLE.fullmatch(name):
            fields.note(
                (*node_path, NAME),
                "NAME",
                f"{name!r} cannot be the name of a variable; write letters, digits, _",
            )
        elif name.startswith("MODELOPS_"):
            fields.note((*node_path, NAME), "NAME", f"{name} is reserved for the worker; use another name")
        text = _read_text(fields, node_path, value)
        if text is not None:
            variables[name] = text
    return variables


def _read_outputs(fields: Fields, raw: dict[str, object]) -> dict[str, dict[str, str]]:
    if "outputs" not in raw:
        message = (
            "outputs is missing; name the files that the program writes, such as outputs: {result: "
            'result.csv}, or {result: "-"} for what it prints'
        )
        fields.note(("command",), "MISSING", message)
        return {}
    if isinstance(raw["outputs"], list):
        message = (
            "outputs of a command are a mapping of names to files, which are all stored, such as {result: "
            "result.csv}; a list of names is for models"
        )
        fields.note(("outputs",), "TYPE", message)
        return {}
    outputs = {}
    for name, value in (fields.mapping(raw, (), "outputs", filled=True) or {}).items():
        node_path: NodePath = ("outputs", name)
        if not name:
            fields.note((*node_path, NAME), "NAME", "an output must have a name")
        stated: dict[str, object] = value if isinstance(value, dict) else {"file": value}
        fields.check_names(stated, node_path, ("file", "format"))
        file = stated.get("file")
        file_path: NodePath = (*node_path, "file") if isinstance(value, dict) else node_path
        if not isinstance(file, str) or not file:
            message = "write the file's path, such as out/curve.csv, or {file: PATH, format: csv}"
            fields.note(file_path, "TYPE" if file else "EMPTY", message)
            continue
        if file != STDOUT:
            _check_path(fields, file_path, file)
        _read_text(fields, file_path, file)
        kind = stated.get("format", _guess_format(file))
        if kind not in FORMATS:
            message = f"format is {kind!r}; write one of {', '.join(FORMATS)}"
            fields.note((*node_path, "format"), "VALUE", message)
        if PurePosixPath(file) == PurePosixPath(str(raw.get(PARAMETERS_FILE) or STDOUT)) and file != STDOUT:
            message = (
                f"{file} is the parameters_file, so the parameters would be stored as this output if the "
                "program writes none; use another name for one of the two"
            )
            fields.note(file_path, "VALUE", message)
        outputs[name] = {"file": file, "format": str(kind)}
    return outputs


def _guess_format(file: str) -> str:
    suffix = PurePosixPath(file).suffix.lower().removeprefix(".")
    return {"pq": "parquet"}.get(suffix, suffix if suffix in FORMATS else "raw")


def _check_path(fields: Fields, node_path: NodePath, file: str) -> None:
    """Record a path that points outside the program's folder."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\0" in file or not path.name:
        message = f"{file!r} must be a file in the folder that the program works in, by a relative path"
        fields.note(node_path, "VALUE", message)


# Placeholders


def _check_placeholders(
    fields: Fields,
    raw: dict[str, object],
    program: dict[str, Any],
    names: set[str],
    *,
    is_read: bool,
) -> None:
    """Record placeholders without a parameter and, if everything was read, parameters without a placeholder.

    names are those of the parameters.
    """
    has_file = PARAMETERS_FILE in program
    reserved = (*TASK_NAMES, PARAMETERS_FILE)
    for name in sorted(names.intersection(reserved)):
        fields.note(
            _parameter_path(raw, name),
            "PLACEHOLDER",
            f"{name} cannot be a parameter of a study with a command: {{{name}}} is reserved; "
            "use another name",
        )
    known = {*names, *TASK_NAMES, *([PARAMETERS_FILE] if has_file else [])}
    used = _used_names(program)
    for node_path, text in _list_texts(program):
        for name in _names_in(text):
            if name not in known:
                fields.note(node_path, "PLACEHOLDER", _explain_unknown(name, known))
    if is_read and not has_file:
        for name in sorted(names - used - set(reserved)):
            message = (
                f"{name} does not reach the program; write {{{name}}} in command or environment, or "
                "parameters_file: params.json for a file that has all parameters"
            )
            fields.note(_parameter_path(raw, name), "NOT_PASSED", message)
    if "seed" not in used and raw.get("replicates", 1) != 1 and raw.get("deterministic") is not True:
        message = (
            "{seed} does not reach the program, so all replicates of a set are likely to be equal; "
            "pass it, or write deterministic: true"
        )
        fields.note(("command",), "NO_SEED", message)


def _list_texts(program: dict[str, Any]) -> Iterator[tuple[NodePath, str]]:
    for number, text in enumerate(program.get("command", ())):
        yield ("command", number), text
    for name, text in program.get("environment", {}).items():
        yield ("environment", name), text
    for name, output in program.get("outputs", {}).items():
        yield ("outputs", name), output["file"]


def _used_names(program: dict[str, Any]) -> set[str]:
    return {name for _, text in _list_texts(program) for name in _names_in(text)}


def _names_in(text: str) -> list[str]:
    try:
        return list_names(text)
    except ValueError:  # recorded when it was read
        return []


def _explain_unknown(name: str, known: Collection[str]) -> str:
    if name == PARAMETERS_FILE:
        return (
            "{parameters_file} needs a name for that file; write parameters_file: params.json beside command"
        )
    near = difflib.get_close_matches(name, sorted(known), 1)
    hint = f"did you mean {{{near[0]}}}?" if near else f"expected one of {', '.join(sorted(known))}"
    braces = "; write {{ or }} for a literal brace" if not name.isidentifier() else ""
    return f"{{{name}}} is not a parameter of this study; {hint}{braces}"


def _parameter_path(raw: dict[str, Any], name: str) -> NodePath:
    """The position of a parameter, or of the list of sets that have it."""
    fixed, grid = raw.get("fixed"), raw.get("grid")
    if isinstance(fixed, dict) and name in fixed:
        return ("fixed", name)
    if isinstance(grid, dict) and name in grid:
        return ("grid", name)
    for method in ("latin-hypercube", "sobol"):
        if isinstance(raw.get(method), dict):
            return (method, "parameters", name)
    return ("sets",)


def _check_values(
    fields: Fields, program: dict[str, Any], sampling: Sampling, fixed: dict[str, object]
) -> None:
    """Record values that cannot be arguments, and sets that lack a value needed by the command."""
    used = _used_names(program)
    for name in sorted(used & fixed.keys()):
        _check_value(fields, ("fixed", name), fixed[name])
    if isinstance(sampling, Grid):
        for name in sorted(used & sampling.values.keys()):
            for number, value in enumerate(sampling.values[name]):
                _check_value(fields, ("grid", name, number), value)
    if isinstance(sampling, Explicit):
        needed = sorted(used & sampling.names)
        n_findings = len(fields.findings)
        for number, (params, _) in enumerate(sampling.rows):
            for name in needed:
                if name in params:
                    _check_value(fields, ("sets", number, name), params[name])
                elif name not in fixed:
                    message = f"{name} is missing in this set, but the command has {{{name}}}"
                    fields.note(("sets", number), "MISSING", message)
            if len(fields.findings) - n_findings > MOST_FINDINGS:
                return


def _check_value(fields: Fields, node_path: NodePath, value: object) -> None:
    if type(value) in (int, float, bool):
        return
    try:
        format_value(value)
    except ValueError as error:
        fields.note(node_path, "PLACEHOLDER", str(error))
