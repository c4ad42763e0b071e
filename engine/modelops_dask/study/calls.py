"""What a study's tasks call, as far as the bundle's files show, and whether the parameters fit it.

    Spec, bundle -> wire function | function called by its name -> Call, as text
                 -> its signature in the source -> findings in the study file: names that do not fit

Nothing of the model is imported. Facts that the source does not show are left to the runner, which refuses
them with the same messages when it starts (executors/functions.py).
"""

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from modelops_dask.bundle import Bundle, source
from modelops_dask.bundle.source import Absent, Definition
from modelops_dask.environments import declaration
from modelops_dask.executors import functions
from modelops_dask.executors.functions import Signature
from modelops_dask.executors.wire import find_wire
from modelops_dask.plan import document
from modelops_dask.plan.document import NAME, BadDocument
from modelops_dask.plan.program import render_command
from modelops_dask.plan.sampling import Explicit
from modelops_dask.plan.spec import DEFAULT_SCENARIO, SAMPLING_KEYS, Spec
from modelops_dask.settings import Settings
from modelops_dask.study.commands import check_program

NodePath = tuple[str | int, ...]  # characters of a value in the study file
MOST_FINDINGS = 20
# ModelOps' packages have a wire function, which is then called, and need not be installed here.
_BRIDGES = re.compile(r"(?mi)^\W*(modelops|calabaria)")


@dataclass(frozen=True)
class Call:
    """What tasks call.

    Args:
        function: The wire function's reference, or package.module.function.
        is_wire: Whether it is a wire function.
        parameters: For a function called by its name: those in its source; None: not known.
        place: FILE:LINE of it in the bundle; "" if not known.
        other: FILE:LINE of the function that the study names, if the wire function is called instead.
        command: For a study that runs a program, as typed; there is then no function.
    """

    function: str
    is_wire: bool
    parameters: str | None = None
    place: str = ""
    other: str = ""
    command: str = ""

    def __str__(self) -> str:
        if self.command:
            return f"Runs {self.command}"
        if self.is_wire:
            other = f" ({self.other}, which the study names, is not called)" if self.other else ""
            return f"Calls the wire function {self.function}{other}"
        parameters = "" if self.parameters is None else f"({self.parameters})"
        place = f" of {self.place}" if self.place else ""
        return f"Calls {self.function}{parameters}{place}"


def describe_call(bundle: Bundle, entrypoint: str) -> Call:
    """What tasks of an entrypoint call, as far as the bundle's files show. Raises BadInput."""
    if bundle.program:
        return Call("", is_wire=False, command=render_command(bundle.program))
    reference, path = find_wire(bundle.path, entrypoint), entrypoint.partition("/")[0]
    definition = source.read_function(bundle.path, path)
    definition = definition if isinstance(definition, Definition) else None
    place = definition.place if definition else ""
    if not reference.endswith("()"):
        return Call(reference or "of an installed package", is_wire=True, other=place)
    parameters = _render_parameters(definition.arguments) if definition and definition.arguments else None
    return Call(path, is_wire=False, parameters=parameters, place=place)


def _render_parameters(arguments: ast.arguments) -> str:
    """The parameters as in the source, without annotations."""
    plain = copy.deepcopy(arguments)
    for node in ast.walk(plain):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(plain)


def check_call(spec: Spec, bundle: Bundle, settings: Settings) -> None:
    """Compare a study with what it calls, as far as the bundle's files show.

    Raises:
        BadDocument: Something does not fit; with all findings, at their positions in the study file.
        BadInput: A file of the bundle cannot be used, or is not a program that can be started.
    """
    if spec.program:
        check_program(replace(bundle, program=spec.program))
        return
    findings = list(_find_problems(spec, bundle, settings))
    if findings:
        path = spec.path
        is_file = path.is_file()
        content = document.read(path) if is_file else document.from_plain_data(spec.source, path)
        if content.value != spec.source:  # not the file of the study
            content = document.from_plain_data(spec.source, path)
        raise BadDocument(path, [content.finding(*finding) for finding in findings[:MOST_FINDINGS]])


def _find_problems(spec: Spec, bundle: Bundle, settings: Settings) -> Iterator[tuple[NodePath, str, str]]:
    """(position in the study file, code, text) of each problem."""
    reference, path = find_wire(bundle.path, spec.entrypoint), spec.entrypoint.partition("/")[0]
    if not reference.endswith("()"):
        if not spec.names_scenario:
            text = f"scenario is missing, and the wire function {reference} needs one; write scenario: "
            yield (), "MISSING", f"{text}{DEFAULT_SCENARIO}, or another that it supports"
        return
    if _may_have_wire(bundle, settings):
        return
    definition = source.read_function(bundle.path, path)
    at: NodePath = ("model",) if "model" in spec.source else ("entrypoint",)
    if isinstance(definition, Absent):
        text = functions.explain_unknown(definition.owner, definition.name, definition.functions)
        yield at, "FUNCTION", text
    if not isinstance(definition, Definition):
        return
    if definition.kind != "function":
        yield at, "FUNCTION", functions.explain_kind(path, definition.kind)
    elif definition.arguments:
        signature = _make_signature(definition.arguments)
        if functions.reads_arguments(signature, definition.names):
            yield at, "FUNCTION", functions.explain_kind(path, "arguments")
        else:
            yield from _compare(spec, path, signature)


def _may_have_wire(bundle: Bundle, settings: Settings) -> bool:
    """Whether an installed package may have a wire function, which takes precedence over a function by its
    name.
    """
    uses_own = settings.executor_type == "direct" or settings.executor_environment == "image"
    if uses_own and functions.has_installed_wire():
        return True
    files = (bundle.path / name for name in (declaration.PROJECT, declaration.REQUIREMENTS))
    return any(_BRIDGES.search(path.read_text("utf-8", "replace")) for path in files if path.is_file())


def _make_signature(arguments: ast.arguments) -> Signature:
    by_position = [each.arg for each in arguments.posonlyargs]
    positional = [*by_position, *(each.arg for each in arguments.args)]
    keywords = [each.arg for each in arguments.kwonlyargs]
    defaults = {*positional[len(positional) - len(arguments.defaults) :]}
    defaults |= {name for name, value in zip(keywords, arguments.kw_defaults, strict=True) if value}
    names = [*positional, *keywords]
    return Signature(
        tuple(by_position),
        tuple(names[len(by_position) :]),
        frozenset(names) - defaults,
        arguments.kwarg is not None,
    )


def _compare(spec: Spec, path: str, signature: Signature) -> Iterator[tuple[NodePath, str, str]]:
    """The parameters of each set that do not fit, each name once."""
    reported = set()
    for at, names in _list_names(spec):
        for name, text in functions.explain_names(path, signature, [*spec.fixed, *names]):
            if text not in reported:
                reported.add(text)
                place = at if not name else ("fixed", name, NAME) if name in spec.fixed else (*at, name, NAME)
                yield place, "FUNCTION", text
    if not spec.names_scenario and "scenario" in (*signature.by_position, *signature.by_name):
        text = f"{path} has a parameter scenario; write its value, such as scenario: {DEFAULT_SCENARIO}"
        yield (), "MISSING", text


def _list_names(spec: Spec) -> Iterator[tuple[NodePath, tuple[str, ...]]]:
    """The names of parameters that sets have besides `fixed`, with their positions; the first of equal
    ones.
    """
    key = next(key for key in (*SAMPLING_KEYS, "parameter_sets") if key in spec.source)
    if not isinstance(spec.sampling, Explicit):
        at: NodePath = (key,) if key == "grid" else (key, "parameters")
        yield at, tuple(spec.sampling.names)
        return
    items: Any = spec.source[key]
    seen = set()
    for number, (params, _) in enumerate(spec.sampling.rows):
        names = tuple(params)
        if names not in seen:
            seen.add(names)
            own = isinstance(items[number].get("params"), dict) and names == tuple(items[number]["params"])
            yield ((key, number, "params") if own else (key, number)), names
