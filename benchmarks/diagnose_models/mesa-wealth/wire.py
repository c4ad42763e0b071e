"""Agents who give away money (Mesa)."""

import json

import mesa


class Person(mesa.Agent):
    def __init__(self, model):
        super().__init__(model)
        self.wealth = 1

    def step(self):
        if self.wealth:
            self.random.choice(self.model.agents).wealth += 1
            self.wealth -= 1


class Economy(mesa.Model):
    def __init__(self, people, seed):
        super().__init__(rng=seed)
        Person.create_agents(self, people)

    def step(self):
        self.agents.shuffle_do("step")


def wire(entrypoint, params, seed):
    economy = Economy(params["people"], seed)
    for _ in range(params["steps"]):
        economy.step()
    return {"wealth": json.dumps(sorted(agent.wealth for agent in economy.agents)).encode()}
