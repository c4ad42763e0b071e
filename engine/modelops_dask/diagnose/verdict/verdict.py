"""From differences to their cause: a table, read from the top.

facts (differs, the same, not known) -> the first row that they match -> a verdict, and why

`TABLE` is the complete reasoning: `mops-helm diagnose --explain` prints it. experiment.py determines the
facts and makes a Diagnosis of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Fact = bool | None  # True: differs; False: the same; None: not known

# The meaning of each fact when it is True, in the order in which they are determined.
FACTS = {
    "failing": "every task fails in new processes, with the same error",
    "files": "new processes differ, unless files left by earlier tasks are removed before each task",
    "fresh": "two runs that share nothing, not even an environment, differ",
    "cold": "two runs with a new interpreter for each task differ (cold)",
    "venv": "the cached environment gives different results from a new one (cold, fresh-venv)",
    "seed": "replicates with different seeds are equal in new processes, and the study is not declared "
    "deterministic",
    "reuse": "a process that ran other tasks before gives different results (single-process)",
    "concurrency": "concurrent processes give different results (baseline, cold-concurrent), but not alone",
    "few": "too few distinct tasks were compared to rule out a difference",
    "fork": "a fork of the imported model gives different results (isolated-fork)",
    "direct": "the Dask worker's own process gives different results (direct)",
    "threads": "threads give different results (threads, native-threads)",
    "memory": "a process grows from task to task, or a task needs more memory than its limit",
    "surroundings": "results depend on the order of directory listings, or on the clock",
}
VERDICTS = (
    "healthy",
    "model-nondeterministic",
    "seed-unused",
    "process-reuse",
    "shared-process",
    "cached-environment",
    "threads",
    "concurrency",
    "memory",
    "inconclusive",
)
# What an unknown fact leaves open.
OPEN = {
    "fresh": "cached-environment: no two runs in new environments were compared",
    "venv": "cached-environment: not compared with a new environment",
    "seed": "seed-unused: too few replicates with different seeds were compared in new processes",
    "reuse": "process-reuse: no process that had run other tasks was compared",
    "concurrency": "concurrency: no processes side by side, each with several tasks, were compared",
    "fork": "forking: isolated-fork was not compared",
    "direct": "shared-process: direct was not compared",
    "threads": "threads: nothing ran in threads of one process",
    "memory": "memory: too few tasks ran in one process to show growth",
    "surroundings": "hash seed, locale, time zone, order of directory listings, clock: no alternatives "
    "were tried",
}
DIFFERS = frozenset({True})
SAME = frozenset({False})
UNKNOWN = frozenset({None})
NOT_SEEN = SAME | UNKNOWN


@dataclass(frozen=True)
class VerdictRule:
    """A rule; facts that are not named may have any value. `arms` are the two whose difference proves it."""

    facts: Mapping[str, frozenset[Fact]]
    verdict: str
    because: str
    arms: tuple[str, str] = ("", "")

    def matches(self, facts: Mapping[str, Fact]) -> bool:
        return all(facts.get(name) in allowed for name, allowed in self.facts.items())


NOTHING_DIFFERS = {
    "cold": SAME,
    "seed": NOT_SEEN,
    "reuse": SAME,
    "concurrency": SAME,
    "fork": NOT_SEEN,
    "direct": NOT_SEEN,
    "venv": NOT_SEEN,
    "surroundings": NOT_SEEN,
}
TABLE = (
    VerdictRule(
        {"failing": DIFFERS},
        "inconclusive",
        "every task fails, even alone in a new process: fix that first",
    ),
    VerdictRule(
        {"files": DIFFERS},
        "model-nondeterministic",
        "results depend on files left by other tasks, not only on parameters and seed",
        ("cold", "cold"),
    ),
    VerdictRule(
        {"fresh": DIFFERS},
        "model-nondeterministic",
        "runs that share nothing differ: the same parameters and seed do not give the same result",
        ("fresh-venv", "fresh-venv"),
    ),
    VerdictRule(
        {"cold": DIFFERS, "fresh": SAME},
        "cached-environment",
        "new processes differ from each other in the cached environment, but not in new environments",
        ("cold", "cold"),
    ),
    VerdictRule(
        {"cold": DIFFERS},
        "model-nondeterministic",
        "new processes differ: the same parameters and seed do not give the same result",
        ("cold", "cold"),
    ),
    VerdictRule(
        {"cold": SAME, "venv": DIFFERS},
        "cached-environment",
        "the cached environment gives different results from a newly built one",
        ("fresh-venv", "cold"),
    ),
    VerdictRule(
        {"cold": SAME, "seed": DIFFERS},
        "seed-unused",
        "randomness does not come from the seed: replicates with different seeds are equal in new processes",
    ),
    VerdictRule(
        {"cold": SAME, "reuse": DIFFERS},
        "process-reuse",
        "results depend on which tasks the process ran before",
        ("single-process", "cold"),
    ),
    VerdictRule(
        {"cold": SAME, "concurrency": DIFFERS},
        "concurrency",
        "results differ only while other processes run: they share something outside the processes",
        ("baseline", "cold"),
    ),
    VerdictRule(
        {"cold": SAME, "reuse": SAME, "direct": DIFFERS},
        "shared-process",
        "only the Dask worker's own process gives different results",
        ("direct", "cold"),
    ),
    VerdictRule(
        {"cold": SAME, "direct": NOT_SEEN, "threads": DIFFERS},
        "threads",
        "only threads give different results",
        ("threads", "cold"),
    ),
    VerdictRule(
        {"cold": SAME, "memory": DIFFERS},
        "memory",
        "results are the same, but there is not enough memory",
        ("single-process", "cold"),
    ),
    VerdictRule(
        {"cold": SAME, "surroundings": DIFFERS},
        "model-nondeterministic",
        "results depend on the machine or the date, not only on parameters and seed",
    ),
    VerdictRule(
        {"cold": SAME, "reuse": SAME, "concurrency": SAME, "direct": NOT_SEEN, "fork": DIFFERS},
        "inconclusive",
        "only forks differ: the model is not safe to fork",
        ("isolated-fork", "cold"),
    ),
    VerdictRule(
        NOTHING_DIFFERS | {"few": DIFFERS},
        "inconclusive",
        "nothing differs, but too few distinct tasks were compared to call the model healthy",
    ),
    VerdictRule(
        NOTHING_DIFFERS,
        "healthy",
        "everything that was run gives the same results",
    ),
    VerdictRule({}, "inconclusive", "too little was run to name a cause"),
)


def judge(facts: Mapping[str, Fact]) -> VerdictRule:
    """The first row that the facts match; the last one matches all."""
    return next(row for row in TABLE if row.matches(facts))


def list_open_causes(facts: Mapping[str, Fact]) -> tuple[str, ...]:
    """What the unknown facts leave open, a sentence each."""
    unknown = {name for name in OPEN if facts.get(name) is None}
    if not facts.get("cold"):  # one of the two comparisons with new environments is enough
        unknown.discard("fresh")
    else:
        unknown.discard("venv")
    return tuple(explanation for name, explanation in OPEN.items() if name in unknown)
