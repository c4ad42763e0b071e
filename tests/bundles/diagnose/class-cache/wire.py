"""Contagion on a network. Networks are dear, so the class keeps them: by size, though density matters too."""

import json
import random


class Network:
    built = {}  # noqa: RUF012 (shared by all networks: that is what is wrong)

    def __init__(self, size, density):
        rng = random.Random(size)
        self.links = [
            [other for other in range(size) if other != one and rng.random() < density] for one in range(size)
        ]

    @classmethod
    def of(cls, size, density):
        if size not in cls.built:
            cls.built[size] = cls(size, density)
        return cls.built[size]


def wire(entrypoint, params, seed):
    network = Network.of(params["size"], params["density"])
    rng = random.Random(seed)
    reached, edge = {0}, [0]
    while edge:
        edge = [
            other
            for one in edge
            for other in network.links[one]
            if other not in reached and rng.random() < 0.3
        ]
        reached.update(edge)
    return {"outbreak": json.dumps({"reached": len(reached), "links": sum(map(len, network.links))}).encode()}
