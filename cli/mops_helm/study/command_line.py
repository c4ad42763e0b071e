"""Commands to type again, for suggestions."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from modelops_dask.documents.quoting import quote_path


def format_value_flags(preset_names: Sequence[str], files: Sequence[Path], sets: Sequence[str]) -> str:
    """The flags that chose the values."""
    arguments = [argument for name in preset_names for argument in ("--preset", name)]
    arguments += [argument for path in files for argument in ("-f", str(path))]
    arguments += [argument for text in sets for argument in ("--set", text)]
    return shlex.join(arguments)


def format_shape_flags(preset_names: Sequence[str], files: Sequence[Path], sets: Sequence[str]) -> str:
    """The flags that chose the values without those that chose an isolation, so that one can be added."""
    from mops_helm.values.presets import find

    names = [name for name in preset_names if find(name).kind != "isolation"]
    pairs = [",".join(pair for pair in text.split(",") if not _is_type(pair)) for text in sets]
    return format_value_flags(names, files, [text for text in pairs if text])


def binds_executor(sets: Sequence[str]) -> bool:
    """Whether --set flags choose values of the executor besides its type."""
    pairs = [pair for text in sets for pair in text.split(",")]
    return any(pair.startswith("executor.") and not _is_type(pair) for pair in pairs)


def _is_type(pair: str) -> bool:
    return pair.startswith("executor.type=")


def format_flags(flags: Iterable[tuple[str, object]]) -> str:
    """Flags with their values; those without a value are left out."""
    return " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in flags if value)


def format_run_command(spec_path: Path, value_flags: str, flags: Iterable[tuple[str, object]]) -> str:
    """`mops-helm study run` with its flags."""
    clauses = ("mops-helm study run", quote_path(spec_path), value_flags, format_flags(flags))
    return " ".join(filter(None, clauses))


def format_submit_command(
    spec_path: Path, location: str, release: str, flags: Iterable[tuple[str, object]]
) -> str:
    """`mops-helm study submit` with its flags; `location` are those for the cluster."""
    command = f"mops-helm study submit {quote_path(spec_path)} {location}"
    return f"{command} --release {shlex.quote(release)} {format_flags(flags)}".rstrip()
