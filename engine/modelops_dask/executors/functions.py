"""A function that a study calls by its name, as a wire function.

    package.module.function -> load() -> the function -> make_wire() -> wire(entrypoint, params, seed)
    wire: parameters by name, and seed, rng and scenario if the signature has them -> its value -> outputs

Parameters that do not fit are refused before the function is called. The driver uses the same messages for
the same facts in the source. docs/functions.md describes which functions can be called, and how. This module
uses only the standard library and Python 3.9's language, with few imports, because runner.py loads it by
path.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:  # each new interpreter would pay for these imports: see messages.py
    from collections.abc import Callable, Iterable
    from typing import Any

if TYPE_CHECKING or __package__:
    from modelops_dask.executors import messages, outputs
    from modelops_dask.return_values import values
else:  # runner.py has loaded them by path
    messages, outputs, values = (
        sys.modules[f"_modelops_{name}"] for name in ("messages", "outputs", "values")
    )

GROUP = b"[modelops.wire]"
ADD_WRAPS = "add @functools.wraps(f) to the function that the decorator returns; f is the decorated function"
PASSED = ("seed", "rng", "scenario")  # arguments that a function receives if its signature has them
COROUTINE, ASYNC_GENERATOR, VAR_POSITIONAL, VAR_KEYWORD = (
    0x80,
    0x200,
    0x04,
    0x08,
)  # of co_flags, as in inspect
COMMAND_LINES = ("click", "typer", "cyclopts")  # packages that make commands of functions
READS_ARGUMENTS = frozenset(("argv", "parse_args", "parse_known_args", "ArgumentParser"))
SEED_NAMES = ("random_seed", "rand_seed", "rng_seed", "random_state", "rseed")
METHOD_NAMES = frozenset(("self", "cls"))  # parameters for the object that a method is called on
MOST_NAMES = 12  # names listed in a message


class NoFunction(Exception):
    """The function does not exist, or a study cannot call it; str() is for its author."""


class Signature(namedtuple("Signature", "by_position by_name required takes_any")):
    """The parameters of a function.

    Attributes:
        by_position: Names of positional-only parameters.
        by_name: Names of all other parameters.
        required: Names of parameters without a default.
        takes_any: Whether it has **kwargs.
    """

    __slots__ = ()
    by_position: tuple[str, ...]
    by_name: tuple[str, ...]
    required: frozenset[str]
    takes_any: bool


# What does not fit: messages of the runner and of the driver


def explain_names(path: str, signature: Signature, names: Iterable[str]) -> list[tuple[str, str]]:
    """The problem with a call by these parameters: (the parameter, "" if it is missing; advice)."""
    parameters = (*signature.by_position, *signature.by_name)
    own = [name for name in parameters if name not in PASSED]
    missing = set(signature.required.difference(names, PASSED))
    problems = []
    for name in names:
        if name in PASSED:
            problems.append((name, _explain_passed(path, name)))
        elif name in METHOD_NAMES.intersection(parameters):
            problems.append((name, explain_method(path)))
        elif name not in own and not signature.takes_any:
            offer = _offer(name, own, "takes no parameters")
            problems.append((name, f"{path} has no parameter {name}; {offer}"))
            missing -= {other for other in missing if offer.endswith(f"did you mean {other}?")}
    return problems + [("", _explain_missing(path, name)) for name in parameters if name in missing]


def _explain_passed(path: str, name: str) -> str:
    return (
        f"{name} cannot be a parameter of a study that calls {path} by its name, because the study itself "
        f"passes {name}; choose another name, here and in the function"
    )


def _explain_missing(path: str, name: str) -> str:
    if name in METHOD_NAMES:
        return explain_method(path)
    hint = "; a parameter named seed receives the seed of a task" if name in SEED_NAMES else ""
    return f"{path} needs a value for {name}, which has no default; add {name} to grid or fixed{hint}"


def explain_method(path: str) -> str:
    """Explain that a study cannot pass a function's parameter self or cls."""
    return f"{path} is a method, which needs an object; name a function that makes one and calls it"


def explain_unknown(path: str, name: str, names: Iterable[str]) -> str:
    """The message on a module or class `path` without a function of that name; names are the existing
    ones.
    """
    return f"{path} has no function {name}; {_offer(name, list(names), 'has none')}"


def explain_no_module(module: str, top: str, names: Iterable[str]) -> str:
    """The message if neither the bundle nor its packages have a module; names are those of the bundle."""
    offer = _offer(top, list(names), "has no modules", "the bundle")
    return f"no module {module} in the bundle or its packages, and no wire function; {offer}"


def _offer(name: str, names: list[str], none: str, owner: str = "it") -> str:
    """Names to choose from, and the most similar one."""
    difflib = messages.import_standard("difflib")
    if not names:
        return f"{owner} {none}"
    near = difflib.get_close_matches(name, names, 1)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{owner} has {', '.join(names[:MOST_NAMES])}{more}{question}"


def explain_kind(path: str, kind: str) -> str:
    """Advice on an object that is not a plain function.

    kind: class, module, async, command (of click or typer), arguments (it reads those of the command line).
    """
    name = path.rpartition(".")[2]
    return {
        "class": f"{path} is a class; name a function that makes a {name}, runs it and returns its results",
        "module": f"{path} is a module; name one of its functions, as in {path}.FUNCTION",
        "async": f"{path} is an async function; name a plain function that calls asyncio.run({name}(...))",
        "command": f"{path} is a command-line command; move its code to a plain function, and name that",
        "arguments": f"{path} reads its parameters from the command line, and a study passes them as "
        "arguments; write a function that takes them as its parameters, and name that",
    }[kind]


# The function


def has_installed_wire() -> bool:
    """Whether an installed package has an entry point of modelops.wire; faster than importlib.metadata."""
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                paths = [entry.path for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for path in paths:
            try:
                with open(os.path.join(path, "entry_points.txt"), "rb") as file:
                    if GROUP in file.read():
                        return True
            except OSError:
                continue
    return False


def load(path: str, bundle: str) -> Callable[..., object]:
    """Import the function package.module.function. Raises NoFunction, or any error of the import."""
    function: Any = _find(path, bundle)
    if isinstance(function, type(sys)):
        raise NoFunction(explain_kind(path, "module"))
    if isinstance(function, type):
        raise NoFunction(explain_kind(path, "class"))
    if any(base.__module__.partition(".")[0] in COMMAND_LINES for base in type(function).__mro__):
        raise NoFunction(explain_kind(path, "command"))
    if not callable(function):
        raise NoFunction(f"{path} is not a function but has type {type(function).__name__}")
    result: Callable[..., object] = function
    return result


def _find(path: str, bundle: str) -> Any:
    """Resolve an import path: the longest part of it that is a module, then attributes."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        try:
            value: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                continue
            raise
        for number, part in enumerate(parts[count:], count):
            try:
                value = getattr(value, part)
            except AttributeError:
                problem = explain_unknown(".".join(parts[:number]), part, _list_functions(value))
                raise NoFunction(problem + _explain_other_module(parts[0], bundle)) from None
        return value
    raise NoFunction(explain_no_module(".".join(parts[:-1]), parts[0], _list_modules(bundle)))


def _explain_other_module(name: str, bundle: str) -> str:
    """The message if a module of the bundle has the name of another, which was imported; otherwise ""."""
    file = getattr(sys.modules[name], "__file__", None) or ""
    has_own = any(os.path.isfile(os.path.join(folder, f"{name}.py")) for folder in (bundle, f"{bundle}/src"))
    if not has_own or file.startswith(bundle):
        return ""
    return (
        f". This {name} is not {name}.py of the bundle, but another module of that name; rename the bundle's"
    )


def _list_functions(owner: Any) -> list[str]:
    """The public functions that a module or class defines itself."""
    module = getattr(owner, "__module__", getattr(owner, "__name__", ""))  # a class has one, a module is one
    return [
        name
        for name, value in getattr(owner, "__dict__", {}).items()
        if name[0] != "_" and callable(value) and getattr(value, "__module__", None) == module
    ]


def _list_modules(bundle: str) -> list[str]:
    """The top-level modules and packages of a bundle."""
    names = set()
    for folder in (bundle, os.path.join(bundle, "src")):
        if os.path.isdir(folder):
            for entry in os.scandir(folder):
                stem, _, suffix = entry.name.partition(".")
                is_package = entry.is_dir() and os.path.isfile(os.path.join(entry.path, "__init__.py"))
                if stem.isidentifier() and (suffix == "py" or is_package):
                    names.add(stem)
    return sorted(names)


def read_signature(path: str, function: Callable[..., object]) -> tuple[Signature, dict[str, object]]:
    """The parameters of a function, with their defaults.

    Raises NoFunction if they are not known, and for functions that a study cannot call.
    """
    if type(function) is type(read_signature) and not function.__dict__:  # no decorator has wrapped it
        signature, defaults = _read_code(function)
        flags = function.__code__.co_flags
    else:
        signature, defaults, flags = _inspect(path, function)
    if flags & (COROUTINE | ASYNC_GENERATOR):
        raise NoFunction(explain_kind(path, "async"))
    if any(type(value).__module__.partition(".")[0] in COMMAND_LINES for value in defaults.values()):
        raise NoFunction(explain_kind(path, "command"))
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    if reads_arguments(signature, names):
        raise NoFunction(explain_kind(path, "arguments"))
    return signature, defaults


def reads_arguments(signature: Signature, names: Iterable[str]) -> bool:
    """Whether a function has no parameters, and uses a library that reads command-line arguments."""
    names_of_values = {*signature.by_position, *signature.by_name} - {"argv", "args"}
    return not names_of_values and not READS_ARGUMENTS.isdisjoint(names)


def _read_code(function: Any) -> tuple[Signature, dict[str, object]]:
    """Like inspect.signature(), whose import takes 9 ms."""
    code = function.__code__
    n_named = code.co_argcount + code.co_kwonlyargcount
    by_position = code.co_varnames[: code.co_posonlyargcount]
    by_name = code.co_varnames[code.co_posonlyargcount : n_named]
    values = function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    defaults = dict(zip(positional[len(positional) - len(values) :], values))  # noqa: B905 (Python 3.9)
    defaults.update(function.__kwdefaults__ or {})
    required = frozenset((*by_position, *by_name)) - defaults.keys()
    return Signature(by_position, by_name, required, bool(code.co_flags & VAR_KEYWORD)), defaults


def _inspect(path: str, function: Any) -> tuple[Signature, dict[str, object], int]:
    """The same for wrapped, bound or partially applied functions, with the flags of the underlying code."""
    inspect = messages.import_standard("inspect")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise NoFunction(
            f"the parameters of {path} cannot be read (its type is {type(function).__name__}); "
            "name a Python function that calls it"
        ) from None
    by_position = tuple(
        parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_ONLY
    )
    by_name = tuple(
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )
    defaults = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not parameter.empty
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    inner: Any = inspect.unwrap(function)
    while hasattr(inner, "func"):  # functools.partial
        inner = inspect.unwrap(inner.func)
    inner = getattr(inner, "__func__", inner)
    if not hasattr(inner, "__code__"):  # an object that can be called
        inner = type(inner).__call__
    flags = getattr(getattr(inner, "__code__", None), "co_flags", 0)
    signature = Signature(
        by_position, by_name, frozenset((*by_position, *by_name)) - defaults.keys(), takes_any
    )
    return signature, defaults, flags


def make_wire(
    path: str, function: Callable[..., object]
) -> Callable[[str, dict[str, object], int], outputs.NamedOutputs]:
    """The wire function that calls a function by the names of its parameters, and makes outputs of its return
    value or of the items that it yields.

    wire raises CannotCall, before the function is called, if a task's parameters do not fit. Raises
    NoFunction.
    """
    signature, defaults = read_signature(path, function)
    by_position, by_name, required, takes_any = signature
    allowed = frozenset((*by_position, *by_name))
    needed, passed = required.difference(PASSED), allowed.intersection(PASSED)
    refused = METHOD_NAMES.intersection(allowed).union(PASSED)
    if takes_any and "seed" not in passed:
        function = _expect_seed(path, function)
    default_rng = _import_default_rng(path) if "rng" in passed else None

    def wire(entrypoint: str, params: dict[str, object], seed: int) -> outputs.NamedOutputs:
        names = params.keys()
        unknown = not takes_any and not names <= allowed
        if unknown or not needed <= names or not names.isdisjoint(refused):
            raise messages.CannotCall("\n".join(text for _, text in explain_names(path, signature, names)))
        if passed:
            if "seed" in passed:
                params["seed"] = seed
            if default_rng:
                params["rng"] = default_rng(seed)
            if "scenario" in passed:
                params["scenario"] = entrypoint.rpartition("/")[2]
        positional = [params.pop(name) if name in params else defaults[name] for name in by_position]
        return outputs.NamedOutputs(values.to_outputs(function(*positional, **params)))

    return wire


def _expect_seed(path: str, function: Callable[..., object]) -> Callable[..., object]:
    """Wrap a function that accepts any parameters, and may hide those of a wrapped function: it gets no seed.

    Raises NoFunction if it wraps a function with a seed. Otherwise its failures name the likely cause.
    """
    if any("seed" in names for names in _list_wrapped(function, 3)):
        raise NoFunction(
            f"a decorator of {path} hides its parameter seed, so that no seed would reach it; {ADD_WRAPS}"
        )

    def call(*args: object, **params: object) -> object:
        try:
            return function(*args, **params)
        except TypeError as error:
            if error.args and "argument" in str(error) and "'seed'" in str(error):
                error.args = (f"{error}; {path} hides its parameters, and no seed is passed; {ADD_WRAPS}",)
            raise

    return call


def _list_wrapped(function: Any, depth: int) -> list[tuple[str, ...]]:
    """The parameters of the functions in a function's closure, such as the function that a wrapper wraps."""
    parameters: list[tuple[str, ...]] = []
    for cell in (getattr(function, "__closure__", None) or ()) if depth else ():
        try:
            inner = cell.cell_contents
        except ValueError:  # it is not bound yet
            continue
        code = getattr(inner, "__code__", None)
        if type(inner) is type(_list_wrapped) and code:
            parameters.append(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
            parameters += _list_wrapped(inner, depth - 1)
    return parameters


def _import_default_rng(path: str) -> Callable[[int], object]:
    try:
        default_rng: Callable[[int], object] = importlib.import_module("numpy.random").default_rng
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise NoFunction(
            f"{path} has a parameter rng, a NumPy generator, and numpy is not installed where the model "
            "runs; add numpy to the bundle's packages, or take seed and use random.Random(seed)"
        ) from None
    return default_rng
