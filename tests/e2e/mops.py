"""mops-helm as a person types it, with one of the helms on the PATH."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from chart.rendering import tool


@dataclass(frozen=True)
class Mops:
    """Runs mops-helm in a namespace; `folder` has the helm that it finds."""

    namespace: str
    folder: Path

    def __call__(self, *words: object, status: int = 0) -> str:
        """What a command prints on stdout; the test fails unless it ends with that status."""
        done = self.run(*words)
        said = f"mops-helm {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
        assert done.returncode == status, f"status {done.returncode}, not {status}: {said}"
        return done.stdout

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mops_helm.main", *map(str, words), "--namespace", self.namespace]
        path = os.pathsep.join([str(self.folder), os.environ["PATH"]])
        return subprocess.run(
            command,
            text=True,
            capture_output=True,
            timeout=900,
            env={**os.environ, "PATH": path},
            check=False,
        )


def mops(namespace: str, helm: str, folder: Path) -> Mops:
    """mops-helm that finds this helm."""
    (folder / "helm").symlink_to(tool(helm))
    return Mops(namespace, folder)
