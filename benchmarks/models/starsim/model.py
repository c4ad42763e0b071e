"""An infection of Starsim: its data frame."""

import starsim as ss


def simulate(beta, seed, people=500, years=5):
    sim = ss.Sim(
        n_agents=people,
        diseases=ss.SIS(beta=beta),
        networks="random",
        dur=years,
        rand_seed=seed % 2**31,
        verbose=0,
    )
    sim.run()
    return sim.to_df()
