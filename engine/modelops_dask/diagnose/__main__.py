"""A diagnosis inside a worker's pod: `python -m modelops_dask.diagnose`.

    a request, JSON on stdin -> workers in this pod, with its settings -> diagnose -> JSON on stdout

What is under way goes to stderr. The answer is plain data: whoever asked need not trust what a model does
here. `mops-helm preset diagnose --release` asks; it makes the pod, and removes it.
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
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.study import spec

# Its measurement warns of threads that hold the interpreter's lock, as those of the experiment do.
NO_GIL_MONITOR = {"distributed": {"admin": {"system-monitor": {"gil": {"enabled": False}}}}}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What `asked` comes to: `found`, a Diagnosis as asdict(), and `folder`, where its bundle is here.

    asked: `spec`, a study's content, and `path`, its file as a person knows it; `bundle`, an archive in
    base64, and its `digest`; `shape`, of a worker pod (shape.Shape); `options` of diagnose(). Raises as
    diagnose().
    """
    settings, shape = Settings.from_env(), Shape(**asked["shape"])
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "bundle.tar.gz")
        archive.write_bytes(b64decode(asked["bundle"]))
        bundle = fetch(str(archive), settings.bundles_cache_dir, asked["digest"])
    study = replace(spec.given(asked["spec"], Path()), path=Path(asked["path"]))
    say = partial(print, file=sys.stderr, flush=True)
    with workers(shape, settings, NO_GIL_MONITOR) as client:
        found = diagnose(client, study, bundle, settings, threads=shape.threads, say=say, **asked["options"])
    return {"found": asdict(found), "folder": str(bundle.path)}


def main() -> int:
    """Answer the request on stdin; the exit status is that of an error, whose words are then the answer."""
    asked = json.load(sys.stdin)
    try:
        answered, status = answer(asked), 0
    except MopsError as error:
        answered, status = {"error": str(error)}, error.exit_code
    json.dump(answered, sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(main())
