"""The bundle and study from which `study new` starts: real files, copied unchanged.

scaffold/files/* -> create(folder)

Nothing is filled in: the study is named after its folder, and the model's name is in the study file.
"""

import shutil
from pathlib import Path

from modelops_dask.documents.quoting import quote_path
from modelops_dask.errors import BadInput
from mops_helm.scaffold import existing

FILES = Path(__file__).parent / "files"


def create(folder: Path) -> list[Path]:
    """Copy the files into a new or empty folder and return their paths. Raises BadInput if it has files."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        functions = existing.suggest_functions(folder)
        ways = "\n".join(f"  mops-helm study new --from {quote_path(name)}" for name in functions)
        hint = f", or start from an existing function:\n{ways}" if ways else ""
        raise BadInput(f"{folder} is not empty: name a new folder{hint}")
    # Not copytree, because installers add __pycache__ to the sources, and may make them read-only.
    sources = sorted(path for path in FILES.iterdir() if path.is_file())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(source, folder / source.name)) for source in sources]
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: {error.strerror}") from error
