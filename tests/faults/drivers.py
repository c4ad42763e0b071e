"""Faults of two drivers: a second process runs the study, or another request of its store, at the same time.

Either may be killed. Each has a machine of its own, by its name, so neither is refused.
"""

import random
import time

from faults.disturbed import OTHER, Disturbed, Run

BESIDE_SECONDS = (0.0, 8.0)  # until one of the two may be killed; a driver takes about 3 to begin


def drive_twice(study: Disturbed, rng: random.Random) -> bool:
    """The study is run on another machine too, and either run may be killed."""
    return _beside(study, rng, study.launch("-other"))


def extend_beside(study: Disturbed, rng: random.Random) -> bool:
    """Another machine runs another request of the same store, and either run may be killed."""
    study.write(OTHER)
    return _beside(study, rng, study.launch("-third", spec=OTHER))


def _beside(study: Disturbed, rng: random.Random, other: Run) -> bool:
    study.beside.append(other)
    victim = rng.choice([None, other, study.run])
    deadline = time.monotonic() + rng.uniform(*BESIDE_SECONDS)
    while time.monotonic() < deadline and not (study.run.ended and other.ended):
        time.sleep(0.02)
    if victim:
        victim.process.kill()
    return True
