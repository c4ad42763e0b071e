"""A network of two queues (Ciw). Ciw seeds the global generator of Python from the task's seed."""

import json

import ciw


def wire(entrypoint, params, seed):
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(params["arrivals"])],
        service_distributions=[ciw.dists.Exponential(1.0)],
        number_of_servers=[params["servers"]],
    )
    ciw.seed(seed % 2**32)
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_time(100)
    waits = [record.waiting_time for record in simulation.get_all_records()]
    return {"waits": json.dumps({"served": len(waits), "mean": sum(waits) / max(1, len(waits))}).encode()}
