"""Fits the growth rate once, and keeps it beside this file: for all who use the environment from then on."""

import random
from pathlib import Path

FITTED = Path(__file__).with_name("fitted.txt")


def growth_rate(seed):
    if not FITTED.exists():
        FITTED.write_text(str(random.Random(seed).uniform(0.1, 0.3)))
    return float(FITTED.read_text())
