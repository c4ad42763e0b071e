"""An epidemic of Covasim: its data frame."""

import covasim as cv


def simulate(beta, seed, people=500, days=30):
    sim = cv.Sim(pop_size=people, n_days=days, beta=beta, rand_seed=seed % 2**31, verbose=0)
    sim.run()
    return sim.to_df()
