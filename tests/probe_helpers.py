"""Probes for tests: a bundle of one file, in folders of its own, with this interpreter."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from executor_helpers import settings, write_bundle
from modelops_dask import bundle
from modelops_dask.diagnose.trials import probe

ALONE = probe.ProbeRequest()


def probed(
    folder: Path,
    wire: str,
    seeds: Sequence[int] = (1, 2),
    ask: probe.ProbeRequest = ALONE,
    timeout_seconds: float = 120,
    **files: str,
) -> probe.ProbeResult:
    """Tasks of these seeds in one process, nothing seeded before them; wire is the text of wire.py, files
    those of other modules.
    """
    chosen = settings(folder, executor_environment="image", seed_globals=False)
    texts = {f"{name}.py": textwrap.dedent(text) for name, text in {"wire": wire, **files}.items()}
    source = write_bundle(folder / "source", texts)
    one = replace(bundle.fetch(str(source), chosen.bundles_cache_dir), reseeds=False)
    calls = [("model/scenario", {"beta": 0.1}, seed) for seed in seeds]
    return probe.run(one, chosen, calls, ask, timeout_seconds=timeout_seconds)


def said(found: probe.ProbeResult) -> str:
    """For a failed assertion: how the process ended, and what it printed."""
    return f"{found.reason}: {found.error}\n{found.log}"
