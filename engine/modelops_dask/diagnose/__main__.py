"""A diagnosis inside a worker's pod: `python -m modelops_dask.diagnose`.

    a request, JSON on stdin -> workers in this pod, with its settings -> diagnose -> JSON on stdout

Progress goes to stderr. The answer is plain data, so the requester need not trust the model's code here.
`mops-helm diagnose --release` sends the request; it creates the pod, and removes it.
"""

import json
import sys
import tempfile
from base64 import b64decode
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from modelops_dask.bundle import fetch
from modelops_dask.diagnose import diagnose, workers
from modelops_dask.errors import MopsError
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape

# Dask's measurement warns of threads that hold the interpreter's lock, as those of the experiment do.
NO_GIL_MONITOR = {"distributed": {"admin": {"system-monitor": {"gil": {"enabled": False}}}}}


def answer_request(request: dict[str, Any]) -> dict[str, Any]:
    """Run the requested diagnosis.

    Args:
        request: `spec`, a study's content, and `path`, its file as the user knows it; `bundle`, an archive in
            base64, and its `digest`; `shape`, of a worker pod (shape.Shape); `options` of diagnose().

    Returns:
        `found`, a Diagnosis as asdict(), and `folder`, the path of its bundle on this machine.

    Raises the errors of diagnose().
    """
    settings, shape = Settings.from_env(), Shape(**request["shape"])
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "bundle.tar.gz")
        archive.write_bytes(b64decode(request["bundle"]))
        bundle = fetch(str(archive), settings.bundles_cache_dir, request["digest"])
    study = replace(spec.from_content(request["spec"], Path()), path=Path(request["path"]))
    say = partial(print, file=sys.stderr, flush=True)
    with workers(shape, settings, NO_GIL_MONITOR) as client:
        diagnosis = diagnose(
            client, study, bundle, settings, threads=shape.threads, say=say, **request["options"]
        )
    return {"found": asdict(diagnosis), "folder": str(bundle.path)}


def main() -> int:
    """Answer the request on stdin. After an error the answer is its message, and the exit status that of the
    error.
    """
    request = json.load(sys.stdin)
    try:
        answer, status = answer_request(request), 0
    except MopsError as error:
        answer, status = {"error": str(error)}, error.exit_code
    json.dump(answer, sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(main())
