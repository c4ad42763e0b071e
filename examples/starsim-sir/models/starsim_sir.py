"""The incident's kind of model: an agent-based SIR epidemic on a random contact network, in Starsim.

The network is made in build_sim(), once per task. Made in __init__, each instance that a process kept held a
network of its own; over thousands of tasks that memory ended the pods.
"""

import os

os.environ.setdefault("MPLBACKEND", "agg")  # Starsim imports matplotlib; a worker has no display
os.environ.setdefault("STARSIM_INSTALL_FONTS", "0")  # and needs no fonts

import starsim as ss

DAYS = 180
CONTACTS = {"baseline": 1.0, "distancing": 0.5}  # what a scenario multiplies the contacts by


class StarsimSIR:
    """A scenario of the model; keeps nothing between runs."""

    def __init__(self, scenario: str):
        self.contacts = CONTACTS[scenario]

    def build_sim(
        self,
        seed: int,
        *,
        beta: float,
        n_contacts: float,
        infectious_days: float = 10,
        n_agents: int = 2_000,
        days: int = DAYS,
    ) -> ss.Sim:
        """One simulation, not yet run. beta: chance of infection per contact and day."""
        return ss.Sim(
            n_agents=n_agents,
            diseases=ss.SIR(
                beta=ss.perday(beta),
                dur_inf=ss.lognorm_ex(mean=ss.days(infectious_days)),
                init_prev=0.01,
                p_death=0,
            ),
            networks=ss.RandomNet(n_contacts=n_contacts * self.contacts),
            start="2020-01-01",
            dur=ss.days(days),
            dt=ss.days(1),
            rand_seed=seed,
            verbose=0,
        )
