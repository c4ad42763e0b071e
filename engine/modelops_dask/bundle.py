"""A bundle: the folder that holds a model, known by the digest of what is in it.

    folder -> digest of its tree -> a copy in the cache under the digest, checked each time it is used

The digest covers relative paths, the executable bit, contents and links; not times, owners or what the
ignore rules leave out. The same tree has the same digest on every machine. Does not install or import
anything: venv.py and the runner do.
"""

import contextlib
import fnmatch
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from filelock import FileLock

from modelops_dask.errors import BadInput

logger = logging.getLogger("distributed.modelops.bundle")  # below `distributed`, whose messages Dask shows

IGNORE_FILE = ".modelopsignore"
# What no model reads. A leading slash means the bundle's top folder. Studies are left out, for a study with
# more replicates is a request to the same model.
IGNORED = [
    *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", "*.egg-info"),
    *(".pytest_cache", ".ruff_cache", ".mypy_cache", ".ipynb_checkpoints", ".DS_Store", ".idea", ".vscode"),
    *("/out", "/study*.yaml", "/study*.yml", "/study*.json"),
]
_DIGEST = re.compile(r"(?:.+@)?sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Bundle:
    """A tree in the cache and its digest, "sha256:" and 64 hexadecimal digits."""

    path: Path
    digest: str


def find(start: Path) -> Path:
    """The nearest folder, start or one above it, that is a bundle. Raises BadInput when none is."""
    marks = (".modelops-bundle", ".modelops", "wire.py")
    for folder in (start.resolve(), *start.resolve().parents):
        if any((folder / name).exists() for name in marks) or _names_wire(folder):
            return folder
    raise BadInput(
        f"no bundle in {start.resolve()} or above it: expected .modelops-bundle/, .modelops/, wire.py, "
        "or a pyproject.toml with an entry point of group modelops.wire"
    )


def _names_wire(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("project", {})
        return "modelops.wire" in project.get("entry-points", {})
    except (OSError, ValueError, AttributeError):
        return False


def fetch(reference: str, cache_dir: Path) -> Bundle:
    """The bundle in the cache that a reference means: a folder, or [REPOSITORY@]sha256:DIGEST if it is there.

    A copy whose files are not what they were is made again, and the log says so; files that models added do
    not count, for a runner may be at work in it. Raises BadInput.
    """
    if known := _DIGEST.fullmatch(reference):
        path = cache_dir / known[1]
        if _is_whole(path, f"sha256:{known[1]}"):
            return Bundle(path, f"sha256:{known[1]}")
        raise BadInput(
            f"bundle {reference} is not in {cache_dir}; this version fetches folders only: name its folder"
        )
    source = Path(reference).expanduser()
    if not source.is_dir():
        raise BadInput(f"bundle {reference}: not a folder")
    wanted = digest(source)
    path = cache_dir / wanted.removeprefix("sha256:")
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not _is_whole(path, wanted):
            _copy(source, path, wanted)
    return Bundle(path, wanted)


def digest(folder: Path) -> str:
    """The digest of a folder's tree: "sha256:" and 64 hexadecimal digits.

    Raises BadInput for links that leave the folder, devices, and the like.
    """
    return _digest_of(folder, _tree(folder))


def _digest_of(folder: Path, files: Iterable[PurePosixPath]) -> str:
    total = hashlib.sha256()
    for relative in files:
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


def _is_whole(path: Path, wanted: str) -> bool:
    if not path.is_dir():
        return False
    with contextlib.suppress(OSError, ValueError):
        files = [PurePosixPath(name) for name in json.loads(_listing(path).read_text("utf-8"))]
        if _digest_of(path, files) == wanted:
            return True
    logger.warning("bundle %s: its copy in the cache was changed; copied again", wanted)
    return False


def _listing(path: Path) -> Path:
    """Beside a copy: the names of the files that were copied."""
    return path.with_name(f"{path.name}.json")


def _copy(source: Path, path: Path, wanted: str) -> None:
    """Copy the tree beside its place, check it, and rename: a reader never sees half of one."""
    with TemporaryDirectory(dir=path.parent, prefix=".new-") as scratch:
        copy = Path(scratch) / "tree"
        copy.mkdir()
        files = _tree(source)
        for relative in files:
            target = copy / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / relative, target, follow_symlinks=False)
            if not target.is_symlink():
                target.chmod(0o755 if (source / relative).stat().st_mode & stat.S_IXUSR else 0o644)
        if _digest_of(copy, files) != wanted:
            raise BadInput(f"bundle {source} changed while it was copied; try again")
        _listing(path).write_text(json.dumps([str(relative) for relative in files]), "utf-8")
        if path.exists():
            path.rename(Path(scratch) / "old")
        copy.rename(path)


def _tree(folder: Path) -> list[PurePosixPath]:
    """The files and links that belong to a bundle, in the order of their names' bytes. Raises BadInput."""
    rules = _rules(folder)
    root = folder.resolve()
    found = []
    for parent, folders, files in os.walk(folder):
        place = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = [
            name for name in folders if name not in linked and not _ignored(place / name, rules, folder=True)
        ]
        for name in (*files, *linked):
            path = place / name
            if _ignored(path, rules, folder=False):
                continue
            mode = (folder / path).lstat().st_mode
            if stat.S_ISLNK(mode):
                if not (folder / path).resolve().is_relative_to(root):
                    raise BadInput(f"{folder / path}: a link that leaves the bundle; copy what it points at")
            elif not stat.S_ISREG(mode):
                raise BadInput(
                    f"{folder / path}: neither a file nor a folder; remove it or name it in {IGNORE_FILE}"
                )
            found.append(path)
    return sorted(found, key=os.fsencode)


def _rules(folder: Path) -> list[str]:
    try:
        lines = (folder / IGNORE_FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    return [*IGNORED, *(line.strip() for line in lines if line.strip() and not line.startswith("#"))]


def _ignored(path: PurePosixPath, rules: list[str], *, folder: bool) -> bool:
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
