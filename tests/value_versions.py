"""Compare the digests of value_cases.py between versions of Python and of libraries: `make test-versions`.

Each environment is made by uv in a temporary folder, of an interpreter that is on this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
CASES = ROOT / "tests" / "value_cases.py"
VALUES = ROOT / "engine" / "modelops_dask" / "return_values" / "values.py"
LIBRARIES = ("numpy", "pandas", "polars", "pyarrow", "xarray", "jax")
OLD = ["numpy==1.26.4", "pandas==1.5.3", "pyarrow==14.0.2", "polars==0.20.31", "xarray==2023.12.0"]
OLDEST = ["numpy<2", "pandas==2.0.3", "pyarrow==10.0.1", "polars==0.19.19", "xarray==2023.6.0"]
ENVIRONMENTS = {  # Python, and what is installed
    "newest": ("3.11", ["numpy", "pandas", "polars", "pyarrow", "xarray"]),
    "numpy before 2": ("3.11", OLD),
    "no pyarrow": ("3.11", ["numpy==1.26.4", "pandas==2.1.4", "polars==1.9.0"]),
    "Python 3.9": ("3.9", OLDEST),
    "polars alone": ("3.13", ["polars"]),
    "jax": ("3.12", ["jax"]),
    "pyarrow alone": ("3.13", ["pyarrow"]),
}


def names_of(packages: list[str]) -> list[str]:
    return [name for name in LIBRARIES if any(package.startswith(name) for package in packages)]


def find_python(version: str) -> str | None:
    """The path of a Python such as 3.9, on PATH or of pyenv, whose shims start only what it has activated."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    folders = [Path(folder) for folder in os.get_exec_path() if Path(folder) != pyenv / "shims"]
    paths = [folder / f"python{version}" for folder in (*folders, *pyenv.glob(f"versions/{version}.*/bin"))]
    return next((str(path) for path in paths if path.exists()), None)


def read(python: str, libraries: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """{case: digest} and {library: version} of an interpreter."""
    command = [python, "-I", str(CASES), str(VALUES), *libraries]
    digests, versions = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return digests, versions


def differences(digests_by_environment: dict[str, dict[str, str]]) -> list[str]:
    """Cases with several digests, within a library's versions or, as case:variant, between libraries."""
    by_case: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for environment, digests in digests_by_environment.items():
        for name, digest in digests.items():
            library, case, *_ = name.split(":")
            by_case[case][digest].append(f"{library} ({environment})")
    return [f"{case}: {dict(places)}" for case, places in by_case.items() if len(places) > 1]


def main() -> int:
    results = {}
    for environment, (version, packages) in ENVIRONMENTS.items():
        python = find_python(version)
        if python is None:
            print(f"{environment}: there is no Python {version} here, so this one is left out")
            continue
        with tempfile.TemporaryDirectory() as folder:
            interpreter = f"{folder}/bin/python"
            subprocess.run([UV, "venv", "-q", "--python", python, folder], check=True)
            subprocess.run([UV, "pip", "install", "-q", "--python", interpreter, *packages], check=True)
            results[environment], versions = read(interpreter, names_of(packages))
        print(f"{environment}: {len(results[environment])} cases,", *map(" ".join, versions.items()))
    found = differences(results)
    print(*found, f"{len(found)} cases differ", sep="\n")
    return bool(found) or len(results) < 2


if __name__ == "__main__":
    sys.exit(main())
