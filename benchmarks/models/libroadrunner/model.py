"""A gene that is read by chance, of libRoadRunner: its course by the names of its columns."""

from pathlib import Path

import roadrunner


def simulate(make, seed, until=20):
    gene = roadrunner.RoadRunner(Path(__file__).with_name("gene.xml").read_text())
    gene.setIntegrator("gillespie")
    gene.getIntegrator().setValue("seed", seed)
    gene["make"] = make
    return gene.simulate(0, until, until + 1)
