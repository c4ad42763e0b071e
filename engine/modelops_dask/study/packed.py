"""A study file that may be compressed, because a Job's ConfigMap has little room."""

import gzip
import tempfile
from pathlib import Path

from modelops_dask.errors import BadInput
from modelops_dask.plan import spec


def load(path: Path) -> spec.Spec:
    """The spec of a file, or of the content of NAME.gz.

    Raises BadDocument; BadInput for a file that is not gzip.
    """
    if path.suffix != ".gz":
        return spec.load(path)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        try:
            plain.write_bytes(gzip.decompress(path.read_bytes()))
        except (gzip.BadGzipFile, EOFError) as error:
            raise BadInput(f"{path} cannot be unpacked: {error}") from None
        return spec.load(plain)
