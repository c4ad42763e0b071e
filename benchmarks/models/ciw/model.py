"""A queue of Ciw, in the place of emodlib, which no index has: a row for each record."""

import ciw
from ciw.dists import Exponential


def simulate(servers, rate, seed):
    ciw.seed(seed)
    times = {"arrival_distributions": [Exponential(rate)], "service_distributions": [Exponential(1.0)]}
    queue = ciw.Simulation(ciw.create_network(number_of_servers=[servers], **times))
    queue.simulate_until_max_time(50)
    return [{"arrived": one.arrival_date, "wait": one.waiting_time} for one in queue.get_all_records()]
