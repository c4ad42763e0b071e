"""Genealogies of msprime: a table of the sites that differ, and numbers."""

import msprime


def simulate(samples, size, seed):
    trees = msprime.sim_ancestry(
        samples,
        population_size=size,
        sequence_length=1e4,
        recombination_rate=1e-8,
        random_seed=seed % 2**31 + 1,
    )
    trees = msprime.sim_mutations(trees, rate=1e-7, random_seed=seed % 2**31 + 1)
    return {
        "sites": {"position": trees.tables.sites.position},
        "trees": trees.num_trees,
        "diversity": trees.diversity(),
    }
