"""What a Deployment is asked for while something else happens."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster import Release


@contextmanager
def wanted_replicas(release: Release) -> Iterator[list[int]]:
    """Every number of worker pods that is asked for meanwhile, once the `with` ends."""
    command = ["kubectl", "--namespace", release.namespace, "get", "deployment", f"{release.name}-worker"]
    command += ["--watch", "--output", 'jsonpath={.spec.replicas}{"\\n"}']
    seen = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        seen.append(int(watch.stdout.readline()))  # it watches from here on
        try:
            yield seen
        finally:
            watch.terminate()
            seen += [int(line) for line in watch.stdout]
