"""Genealogies of samples (msprime)."""

import json

import msprime


def wire(entrypoint, params, seed):
    trees = msprime.sim_ancestry(
        params["samples"],
        population_size=params["size"],
        sequence_length=1e4,
        recombination_rate=1e-8,
        random_seed=seed % (2**31) + 1,
    )
    trees = msprime.sim_mutations(trees, rate=1e-7, random_seed=seed % (2**31) + 1)
    summary = {"trees": trees.num_trees, "sites": trees.num_sites, "diversity": float(trees.diversity())}
    return {"ancestry": json.dumps(summary).encode()}
