"""Draw docs/images/report.png: the report of the study in README.md, as headless Chromium shows it.

README.md is the source: its blocks that name a file are written into a new folder, its study runs there, and
`mops-helm study report` makes the page. CHROMIUM names the browser if it is not on the path.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 720, 690  # narrow, so that the text can still be read on a phone
LARGEST = 200 * 1024
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FILE_BLOCK = re.compile(r"^```(?:python|yaml study) (\S+)\n((?:.*\n)*?)```$", re.MULTILINE)


def main() -> None:
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")
    if not browser:
        sys.exit("Chromium is not on the path: install it, or set CHROMIUM to the browser's path")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = make_report(folder)
        page.write_text(page.read_text().replace(f"{folder}/", ""))  # no path of this machine in the picture
        screenshot = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--force-device-scale-factor=2", f"--window-size={WIDTH},{HEIGHT}"),
            *("--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}"),
        ]
        subprocess.run([browser, *screenshot, f"--screenshot={PICTURE}", page.as_uri()], check=True)
    if (size := PICTURE.stat().st_size) > LARGEST:
        sys.exit(f"{PICTURE} has {size:,} bytes, and at most {LARGEST:,} are allowed")


def make_report(folder: Path) -> Path:
    """Run the study of README.md in the folder, and return the page of its report."""
    for name, text in FILE_BLOCK.findall((ROOT / "README.md").read_text()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for command in (
        ["study", "run", "measles/study.yaml"],
        ["study", "report", "out/measles", "--to", "report.html"],
    ):
        subprocess.run([sys.executable, "-m", "mops_helm.main", *command], cwd=folder, check=True)
    return folder / "report.html"


if __name__ == "__main__":
    main()
