"""An infection of Starsim: its data frame."""

import starsim as ss


def simulate(beta, seed, people=500, years=5):
    seed = seed % 2**31
    sim = ss.Sim(diseases=ss.SIS(beta=beta), networks="random", n_agents=people, dur=years, rand_seed=seed)
    sim.run(verbose=0)
    return sim.to_df()
