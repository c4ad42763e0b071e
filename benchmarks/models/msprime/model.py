"""Genealogies of msprime: a table of the sites that differ, and numbers."""

import msprime

GENOME = {"sequence_length": 1e4, "recombination_rate": 1e-8}


def simulate(samples, size, seed):
    seed = seed % 2**31 + 1
    trees = msprime.sim_ancestry(samples, population_size=size, random_seed=seed, **GENOME)
    trees = msprime.sim_mutations(trees, rate=1e-7, random_seed=seed)
    sites = {"position": trees.tables.sites.position}
    return {"sites": sites, "trees": trees.num_trees, "diversity": trees.diversity()}
