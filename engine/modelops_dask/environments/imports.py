"""The packages that a model's source imports, by the names that an index uses.

FILE -> its imports, and those of local modules that it imports -> names for `dependencies`
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from modelops_dask.bundle.source import find_module

# Packages with names that differ from their modules.
NAMES = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Bio": "biopython",
    "COPASI": "python-copasi",
    "cobra": "cobra",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "igraph": "igraph",
    "jwt": "pyjwt",
    "libsbml": "python-libsbml",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "msgpack": "msgpack",
    "OpenSSL": "pyopenssl",
    "osgeo": "gdal",
    "PIL": "pillow",
    "psycopg2": "psycopg2-binary",
    "pkg_resources": "setuptools",
    "pylab": "matplotlib",
    "roadrunner": "libroadrunner",
    "ruamel": "ruamel.yaml",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "SALib": "salib",
    "tables": "tables",
    "umap": "umap-learn",
    "usb": "pyusb",
    "win32api": "pywin32",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
MOST_FILES = 100  # files of a bundle that are examined
# Packages that share a name: the first two parts of the import decide.
SHARED = {"google.protobuf": "protobuf", "google.cloud": "google-cloud-storage"}


def list_all_packages(folder: Path) -> list[str]:
    """Like list_packages(), for all modules at the top of a bundle, its packages and its src/."""
    files = [
        file
        for pattern in ("*.py", "src/*.py", "*/__init__.py", "src/*/*.py")
        for file in folder.glob(pattern)
    ]
    return sorted({name for file in files[:MOST_FILES] for name in list_packages(file, folder)})


def list_packages(file: Path, folder: Path) -> list[str]:
    """Names of packages, sorted; the standard library and the modules of the folder are left out."""
    imported, read, unread = set(), {file.resolve()}, [file.resolve()]
    while unread:
        path = unread.pop()
        for name in _list_imports(path):
            local = _find_local(name, path, folder)
            if local is None:
                imported.add(name)
            elif local not in read:
                read.add(local)
                unread.append(local)
    return sorted(
        {_name_package(name) for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    )


def _list_imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, also inside functions; relative ones begin with dots."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    hints = {id(node) for block in ast.walk(tree) if _is_for_types(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            if node.level:
                dot = "" if module.endswith(".") else "."
                yield from (f"{module}{dot}{alias.name}" for alias in node.names)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _find_local(name: str, path: Path, folder: Path) -> Path | None:
    """The file of a local module; the importing file itself if no other has to be read."""
    bare = name.lstrip(".")
    if name != bare:  # relative
        package = path.parent
        for _ in range(len(name) - len(bare) - 1):
            package = package.parent
        return (find_module(package, bare) if bare else None) or path
    module = find_module(folder, name)
    if module is None and (
        find_module(folder, name.partition(".")[0]) or (folder / name.partition(".")[0]).is_dir()
    ):
        return path
    return module.resolve() if module else None


def _name_package(module: str) -> str:
    parts = module.split(".")
    if (shared := ".".join(parts[:2])) in SHARED:
        return SHARED[shared]
    return NAMES.get(parts[0], parts[0])
