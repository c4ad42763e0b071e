"""A model that keeps the log of its last run beside itself, over the one that came with it."""

from pathlib import Path

LOG = Path(__file__).with_name("last_run.log")


def wire(entrypoint, params, seed):
    before = LOG.read_bytes()
    LOG.write_text(f"region {params['region']}, seed {seed}\n")
    return {"before": before, "after": LOG.read_bytes()}
