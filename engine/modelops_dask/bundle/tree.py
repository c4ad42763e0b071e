"""Which files of a folder belong to a bundle, and the digest of them.

    folder -> ignore rules -> files and links in a fixed order -> SHA-256 over names, kinds and contents

The same tree has the same digest on every machine: times, owners and modes other than the executable bit do
not count. Nothing is copied here: cache.py does that.
"""

import difflib
import hashlib
import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from modelops_dask.bundle.ignore import DIGEST_RULE, IGNORE_FILE, read_ignore_rules
from modelops_dask.bundle.source import has_model, list_modules
from modelops_dask.errors import BadInput

SHOWN_MODULES = 8  # files of a folder named in a message
# ModelOps keeps its own settings in .modelops of the home folder.
_MARKS = (".modelops-bundle", ".modelops/manifest.json", ".modelops/modelops.toml", "wire.py")


def find(start: Path, model: str = "") -> Path:
    """The nearest folder, start or one above it, that is a bundle; also start if it has the model's module.

    Args:
        start: The folder of the study file.
        model: The function that the study calls, package.module.function; "" if it is not known.

    Raises:
        BadInput: There is none, or it would be the home folder or the root of all folders.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if is_bundle(folder) or (folder == start and model and has_model(folder, model)):
            if folder in (Path.home().resolve(), Path(folder.anchor)):
                raise BadInput(
                    f"{folder} would be the bundle, with all its contents; move the model and the study "
                    "file into their own folder, or name the bundle (bundle: in the study file, or "
                    "--bundle)"
                )
            return folder
    module = f"the module of {model} or " if model else ""
    raise BadInput(
        f"no bundle found in {start} or above it.{_similar_modules(start, model)} "
        f"Beside the study file {module}a wire function is expected (wire.py, .modelops/, "
        ".modelops-bundle/, or a pyproject.toml with an entry point of group modelops.wire); if it is "
        "elsewhere, name that folder (bundle: in the study file, or --bundle)"
    )


def _similar_modules(folder: Path, model: str) -> str:
    """A description of the modules of a folder that may have been meant."""
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
    """Whether a folder has files that only a bundle has."""
    if any((folder / name).exists() for name in _MARKS):
        return True
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8-sig")).get("project", {})
        return "modelops.wire" in project.get("entry-points", {})
    except (OSError, ValueError, AttributeError):
        return False


def digest(folder: Path, digest_rule: int = DIGEST_RULE) -> str:
    """The digest of a folder's tree: "sha256:" and 64 hexadecimal digits.

    Raises BadInput for links that leave the folder, devices, and the like.
    """
    return digest_of(folder, list_files(folder, digest_rule))


def digest_of(folder: Path, names: Iterable[PurePosixPath]) -> str:
    """The digest of the named files and links of a folder, in the given order; IGNORE_FILE does not count."""
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
        # Each field ends in a byte that it cannot contain, so that two trees never look alike.
        total.update(kind + b"\0" + os.fsencode(relative) + b"\0" + content.digest())
    return f"sha256:{total.hexdigest()}"


def list_files(folder: Path, digest_rule: int = DIGEST_RULE) -> list[PurePosixPath]:
    """List the files and links of a bundle in the order of their names' bytes. Raises BadInput."""
    leaves_out = read_ignore_rules(folder, digest_rule)
    paths = []
    for parent, folders, names in os.walk(folder):
        place = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in linked
            and not leaves_out(place / name, True)
            and not _is_store(Path(parent) / name)
        ]
        for name in (*names, *linked):
            path = place / name
            if leaves_out(path, False):
                continue
            mode = (folder / path).lstat().st_mode
            if stat.S_ISLNK(mode):
                check_link(folder, path)
            elif not stat.S_ISREG(mode):
                raise BadInput(f"{folder / path}: not a file or folder; remove it or add it to {IGNORE_FILE}")
            paths.append(path)
    return sorted(paths, key=os.fsencode)


def is_left_out(folder: Path, name: PurePosixPath, digest_rule: int) -> bool:
    """Whether the rules of a folder exclude a file, or a folder above it, if it existed. Raises BadInput."""
    leaves_out = read_ignore_rules(folder, digest_rule)
    parents = list(name.parents)[:-1]
    return leaves_out(name, False) or any(leaves_out(parent, True) for parent in parents)


def _is_store(folder: Path) -> bool:
    """Whether a folder holds a study: otherwise its first task would change the bundle."""
    return all((folder / name).exists() for name in ("study.json", "spec.json", "sets"))


def check_link(folder: Path, link: PurePosixPath) -> None:
    """Refuse (BadInput) a link that points outside the folder, or would do so in a copy."""
    # realpath, because it handles links that point to themselves.
    target, root = os.path.realpath(folder / link), os.path.realpath(folder)
    if (folder / link).readlink().is_absolute() or not Path(target).is_relative_to(root):
        raise BadInput(
            f"{folder / link}: the link points outside the bundle; replace it with a copy of its target"
        )
