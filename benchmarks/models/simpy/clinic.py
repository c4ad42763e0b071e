"""Patients wait for one of several nurses."""

import simpy


class Clinic:
    """Its `waits` has a row for each patient that was seen."""

    def __init__(self, nurses, minutes, draw):
        self.minutes, self.draw, self.waits = minutes, draw, []
        self.time = simpy.Environment()
        self.nurses = simpy.Resource(self.time, nurses)
        self.time.process(self.open_door())

    def open_door(self):
        while True:
            yield self.time.timeout(self.draw.expovariate(1 / 4))
            self.time.process(self.treat(self.time.now))

    def treat(self, arrived):
        with self.nurses.request() as turn:
            yield turn
            self.waits.append({"arrived": arrived, "wait": self.time.now - arrived})
            yield self.time.timeout(self.draw.expovariate(1 / self.minutes))
