"""A study file typed where its store is wanted, and the reverse: what to type instead.

A command takes SPEC, a study file, or STUDY, the store of its results. Both have the study's name, so they
are easily confused.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from modelops_dask.documents.quoting import quote_path
from modelops_dask.errors import BadInput
from modelops_dask.plan.spec import Spec, load
from modelops_dask.store.identity import FILE

SPEC_SUFFIXES = (".yaml", ".yml", ".json")
MOST_FILES = 50  # that are read to find the study file of a store


class NotAStore(BadInput):
    """STUDY is a study file, or a directory with one."""

    def __init__(self, path: Path, advice: str) -> None:
        super().__init__(path, advice)
        self.path, self.advice = path, advice

    def __str__(self) -> str:
        return f"{self.path} is a study file, not the store of its results. {self.advice}"


def check_store(study: str, command: str, location: str = "") -> None:
    """Refuse a study file that was typed for STUDY.

    Args:
        study: What was typed.
        command: The command as far as STUDY, for advice: `mops-helm study results`.
        location: The flags of the cluster, in which a study has a name; "" for a store.

    Raises:
        NotAStore: It is a study file, or a directory with a study file and without results.
        BadInput: It is another file.
    """
    path = Path(study)
    if path.is_file():
        spec = read_spec(path)
        if spec is None and (store := find_enclosing_store(path)):
            raise BadInput(_advise_enclosing(study, store, command))
        if spec is None:
            raise BadInput(f"{study} is a file. Name the store of a study's results, such as out/NAME.")
    elif path.is_dir() and not (path / FILE).exists() and (store := find_enclosing_store(path)):
        raise BadInput(_advise_enclosing(study, store, command))
    elif (path / "study.yaml").is_file() and not (path / FILE).exists():
        path /= "study.yaml"
        spec = read_spec(path)
    else:
        return
    if spec is None:
        return
    raise NotAStore(path, _advise(spec, path, command, location))


def check_source(source: str, command: str) -> None:
    """Refuse a directory that is neither a store nor a study file, but has a study file in it.

    Raises:
        BadInput: It is such a directory, or a study file that does not exist.
    """
    path = Path(source)
    if path.suffix in SPEC_SUFFIXES and "://" not in source and not path.exists():
        raise BadInput(f"{source}: no such study file")
    if (path / "study.yaml").is_file() and not (path / FILE).exists():
        spec = quote_path(path / "study.yaml")
        raise BadInput(f"{source} is a directory. To use the study file in it:\n  {command} {spec}")


def find_enclosing_store(path: Path) -> Path | None:
    """The store on this machine that a file or folder belongs to, at most three levels up."""
    return next((folder for folder in [*path.parents][:3] if _is_store(folder)), None)


def _is_store(folder: Path) -> bool:
    return (folder / FILE).is_file() and (folder / "parts").is_dir()


def _advise_enclosing(typed: str, store: Path, command: str) -> str:
    return f"{typed} belongs to the store {store}. Name the store:\n  {command} {quote_path(store)}"


def _advise(spec: Spec, path: Path, command: str, location: str) -> str:
    if location:
        return f"In the cluster, use the study's name:\n  {command} {spec.name} {location}"
    store = f"out/{spec.name}"
    if Path(store, FILE).is_file():
        return f"Its results are in {store}:\n  {command} {quote_path(store)}"
    return f"{store} has no results of it yet. To run it:\n  mops-helm study run {quote_path(path)}"


def describe_wrong_spec(typed: str, command: str) -> str:
    """Advice on a store or directory that was typed for SPEC; "" for anything else.

    Args:
        typed: The argument.
        command: The command as far as SPEC, for advice: `mops-helm study plan`.
    """
    path = Path(typed)
    if "://" in typed:
        return f"{typed} is a URL. Name the study file, not the store of its results"
    if path.name == FILE and _is_store(path.parent):
        return describe_wrong_spec(str(path.parent), command)
    if not path.is_dir():
        return ""
    if (path / FILE).is_file():
        problem = f"{typed} is the store of a study's results, not its study file"
        spec_path = find_spec(path)
        if spec_path is None:
            return f"{problem}. Name the study file with which it was run"
        return f"{problem}. To use {spec_path}:\n  {command} {quote_path(spec_path)}"
    if (path / "study.yaml").is_file():
        spec = quote_path(path / "study.yaml")
        return f"{typed} is a directory. To use the study file in it:\n  {command} {spec}"
    return f"{typed} is a directory. Name a study file"


def find_spec(store: Path) -> Path | None:
    """The one study file in the current directory, or one level below it, whose results go to a store."""
    target = store.resolve()
    matches = [
        path
        for path in islice(_list_specs(), MOST_FILES)
        if (spec := read_spec(path)) and Path("out", spec.name).resolve() == target
    ]
    return matches[0] if len(matches) == 1 else None


def _list_specs() -> Iterator[Path]:
    for pattern in ("*", "*/*"):
        for path in sorted(Path().glob(pattern)):
            if path.suffix in SPEC_SUFFIXES and path.is_file() and path.stat().st_size < 1 << 20:
                yield path


def read_spec(path: Path) -> Spec | None:
    """The study of a file; None for a file that is not a study."""
    try:
        return load(path)
    except BadInput:
        return None
