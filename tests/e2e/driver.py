"""A study's driver as a release's contract has it: the Job in its ConfigMap, given a name and arguments."""

import json
from collections.abc import Sequence
from typing import Any

from e2e.cluster import Release


def driver_job(release: Release, name: str, command: Sequence[str]) -> dict[str, Any]:
    """The Job, ready to be applied. The command gets the scheduler's address as its last argument."""
    contract = release.get("configmap", "studies")["data"]
    job = json.loads(contract["job.json"])
    job["metadata"]["name"] = name
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["args"] = [*command, json.loads(contract["release.json"])["scheduler"]]
    return job
