"""Which files of a folder belong to a bundle, and the digest of them.

    folder -> ignore rules -> files and links in a fixed order -> SHA-256 over names, kinds and contents

The same tree has the same digest on every machine: times, owners and modes other than the executable bit do
not count. Does not copy anything: cache.py does.
"""

import difflib
import fnmatch
import hashlib
import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from modelops_dask.bundle.source import has_model, list_modules
from modelops_dask.errors import BadInput

SHOWN_MODULES = 8  # of a folder, in a message
IGNORE_FILE = ".modelopsignore"
# What no model reads. A leading slash means the bundle's top folder. Studies are left out, for a study with
# more replicates is a request to the same model; so are what ModelOps notes of its pushes, and reports.
IGNORED = [
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    "*.pyc",
    "*.egg-info",
    ".pytest_cache",
    ".ruff_cache",
    ".mypy_cache",
    ".ipynb_checkpoints",
    ".idea",
    ".vscode",
    ".DS_Store",
    "__MACOSX",
    "/.modelops-bundle/state.json",
    "/out",
    "/study*.yaml",
    "/study*.yml",
    "/study*.json",
    "/report.html",
]
# ModelOps keeps settings of its own in .modelops of the home folder.
_MARKS = (".modelops-bundle", ".modelops/manifest.json", ".modelops/modelops.toml", "wire.py")


def find(start: Path, model: str = "") -> Path:
    """The nearest folder, start or one above it, that is a bundle; start also if it has a model's module.

    Args:
        start: The folder of the study file.
        model: What the study calls, package.module.function; "" for what is not known.

    Raises:
        BadInput: There is none, or it would be the home folder or the root of all folders.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if is_bundle(folder) or (folder == start and model and has_model(folder, model)):
            if folder in (Path.home().resolve(), Path(folder.anchor)):
                raise BadInput(
                    f"{folder} would be the bundle, with all that is in it; move the model and the study "
                    "file into a folder of their own, or name the bundle (bundle: in the study file, or "
                    "--bundle)"
                )
            return folder
    module = f"the module of {model} or " if model else ""
    raise BadInput(
        f"no bundle in {start} or above it.{_similar_modules(start, model)} "
        f"Beside the study file {module}a wire function is expected (wire.py, .modelops/, "
        ".modelops-bundle/, or a pyproject.toml with an entry point of group modelops.wire); if it is "
        "elsewhere, name that folder (bundle: in the study file, or --bundle)"
    )


def _similar_modules(folder: Path, model: str) -> str:
    """The modules of a folder, in words, among which one may have been meant."""
    try:
        names = list_modules(folder)
    except OSError:
        names = []
    module = model.partition(".")[0]
    if not (module and names):
        return ""
    near = difflib.get_close_matches(module, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"its modules are {', '.join(names[:SHOWN_MODULES])}."
    return f" The folder has no module {module}; {hint}"


def is_bundle(folder: Path) -> bool:
    """Whether a folder has what only a bundle has."""
    if any((folder / name).exists() for name in _MARKS):
        return True
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8-sig")).get("project", {})
        return "modelops.wire" in project.get("entry-points", {})
    except (OSError, ValueError, AttributeError):
        return False


def digest(folder: Path) -> str:
    """The digest of a folder's tree: "sha256:" and 64 hexadecimal digits.

    Raises BadInput for links that leave the folder, devices, and the like.
    """
    return digest_of(folder, list_files(folder))


def digest_of(folder: Path, names: Iterable[PurePosixPath]) -> str:
    """The digest of the named files and links of a folder, in the order given; IGNORE_FILE does not count."""
    total = hashlib.sha256()
    for relative in names:
        if str(relative) == IGNORE_FILE:
            continue
        path = folder / relative
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            kind, content = b"link", hashlib.sha256(os.fsencode(path.readlink()))
        else:
            kind = b"executable" if mode & stat.S_IXUSR else b"file"
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256")
        # Each field ends in a byte that it cannot contain, so that two trees never read alike.
        total.update(kind + b"\0" + os.fsencode(relative) + b"\0" + content.digest())
    return f"sha256:{total.hexdigest()}"


def list_files(folder: Path) -> list[PurePosixPath]:
    """List the files and links of a bundle in the order of their names' bytes. Raises BadInput."""
    rules = _rules(folder)
    paths = []
    for parent, folders, names in os.walk(folder):
        place = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in linked
            and not _is_ignored(place / name, rules, folder=True)
            and not _is_store(Path(parent) / name)
        ]
        for name in (*names, *linked):
            path = place / name
            if _is_ignored(path, rules, folder=False):
                continue
            mode = (folder / path).lstat().st_mode
            if stat.S_ISLNK(mode):
                check_link(folder, path)
            elif not stat.S_ISREG(mode):
                raise BadInput(
                    f"{folder / path}: neither a file nor a folder; remove it or name it in {IGNORE_FILE}"
                )
            paths.append(path)
    return sorted(paths, key=os.fsencode)


def is_left_out(folder: Path, name: PurePosixPath) -> bool:
    """Whether the rules of a folder leave a file out, or a folder above it, if it were there. BadInput."""
    rules = _rules(folder)
    parents = list(name.parents)[:-1]
    return _is_ignored(name, rules, folder=False) or any(
        _is_ignored(parent, rules, folder=True) for parent in parents
    )


def _is_store(folder: Path) -> bool:
    """Whether a folder holds a study: with its first task the bundle would be another one."""
    return all((folder / name).exists() for name in ("study.json", "spec.json", "sets"))


def check_link(folder: Path, link: PurePosixPath) -> None:
    """Refuse (BadInput) a link that leaves the folder, or would in a copy: an absolute one."""
    # realpath, for it copes with links that lead to themselves.
    target, root = os.path.realpath(folder / link), os.path.realpath(folder)
    if (folder / link).readlink().is_absolute() or not Path(target).is_relative_to(root):
        raise BadInput(f"{folder / link}: a link that leaves the bundle; copy what it points at")


def _rules(folder: Path) -> list[str]:
    try:
        lines = (folder / IGNORE_FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    except ValueError:
        raise BadInput(f"{folder / IGNORE_FILE}: not a text in UTF-8") from None
    return [*IGNORED, *(line.strip() for line in lines if line.strip() and not line.startswith("#"))]


def _is_ignored(path: PurePosixPath, rules: list[str], *, folder: bool) -> bool:
    """Whether the last matching rule leaves a path out: gitignore's rules, with `*` also matching slashes."""
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        if pattern.endswith("/") and not folder:
            continue
        pattern = pattern.rstrip("/")
        subject = path.as_posix() if "/" in pattern else path.name
        if fnmatch.fnmatchcase(subject, pattern.removeprefix("/")):
            ignored = not rule.startswith("!")
    return ignored
