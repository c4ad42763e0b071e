"""Agents who give away money."""

import mesa


class Person(mesa.Agent):
    wealth = 1

    def step(self):
        if self.wealth:
            self.random.choice(self.model.agents).wealth += 1
            self.wealth -= 1


class Economy(mesa.Model):
    def __init__(self, people, seed):
        super().__init__(rng=seed)
        Person.create_agents(self, people)
        self.collector = mesa.DataCollector(agent_reporters={"wealth": "wealth"})

    def step(self):
        self.agents.shuffle_do("step")
        self.collector.collect(self)
