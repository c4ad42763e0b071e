"""The smallest build backend (PEP 517): a wheel of the package under src/, by the standard library."""

import zipfile
from pathlib import Path

NAME, VERSION = "calibration", "1.0.0"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    path = Path(wheel_directory, f"{NAME}-{VERSION}-py3-none-any.whl")
    files = {str(file.relative_to("src")): file.read_text() for file in sorted(Path("src").rglob("*.py"))}
    info = f"{NAME}-{VERSION}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n"
    files[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path.name
