"""Store a bundle that arrives on stdin: `python -m modelops_dask.pod.upload STORE DIGEST`.

Images of 0.1.0 lack this module, so `study submit` sends its source to the pod: `python -c SOURCE STORE
DIGEST`. It therefore imports only names that every release has.
"""

import sys


def main(store_url: str, digest: str) -> str | None:
    """Store the archive on stdin as the bundle of that digest.

    Returns:
        The problem, for sys.exit to print; None if the bundle is stored.
    """
    from modelops_dask.errors import MopsError
    from modelops_dask.store.bundles import keep
    from modelops_dask.store.files import Files

    archive = sys.stdin.buffer.read()
    try:
        keep(Files(store_url), digest, archive)
    except MopsError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
