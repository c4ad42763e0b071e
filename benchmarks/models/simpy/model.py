"""A clinic of SimPy: a row for each patient."""

import random

from clinic import Clinic


def simulate(nurses, minutes, seed):
    clinic = Clinic(nurses, minutes, random.Random(seed))
    clinic.time.run(until=480)
    return clinic.waits
