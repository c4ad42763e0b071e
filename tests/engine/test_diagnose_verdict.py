"""The table of reasoning, walked whole; how sure a verdict is; what to use meanwhile."""

import json
import random

import pytest

from modelops_dask.diagnose.result import ArmReport, Diagnosis, Evidence, Example
from modelops_dask.diagnose.verdict import advice, confidence, seed_use, verdict
from modelops_dask.diagnose.verdict.comparison import record_outcome
from modelops_dask.executors import Outcome
from modelops_dask.plan.plan import PlannedTask

GENERATOR = random.Random(17)
ALL = [  # what each row needs, the other facts by chance
    {
        name: GENERATOR.choice(sorted(row.facts.get(name, (True, False, None)), key=str))
        for name in verdict.FACTS
    }
    for row in verdict.TABLE
    for _ in range(2000)
]
NOTHING_SEEN = dict.fromkeys(verdict.FACTS, False)


def test_every_combination_has_one_verdict_and_no_row_is_in_another_s_shadow():
    found = [verdict.judge(facts) for facts in ALL]
    assert {row.verdict for row in found} == set(verdict.VERDICTS)
    reached = {id(row) for row in found}
    shadowed = [row.because for row in verdict.TABLE if id(row) not in reached]
    assert not shadowed


def test_the_table_names_only_facts_and_arms_that_there_are():
    from modelops_dask.diagnose.trials.arms import NAMES

    for row in verdict.TABLE:
        assert set(row.facts) <= set(verdict.FACTS), row.because
        assert set(row.arms) - {""} <= set(NAMES), row.because
    assert set(verdict.OPEN) <= set(verdict.FACTS)


@pytest.mark.parametrize(
    "differs, expected",
    [
        ("fresh cold", "model-nondeterministic"),
        ("cold", "cached-environment"),
        ("venv", "cached-environment"),
        ("reuse fork direct threads memory", "process-reuse"),
        ("concurrency", "concurrency"),
        ("direct", "shared-process"),
        ("threads", "threads"),
        ("memory", "memory"),
        ("seed reuse fork", "seed-unused"),
        ("fork", "inconclusive"),
        ("failing fresh cold reuse", "inconclusive"),
        ("", "healthy"),
    ],
)
def test_what_differs_names_the_cause(differs, expected):
    assert verdict.judge(NOTHING_SEEN | dict.fromkeys(differs.split(), True)).verdict == expected


def test_nothing_is_called_healthy_that_was_not_looked_at():
    for name in ("cold", "reuse", "concurrency"):
        assert verdict.judge(NOTHING_SEEN | {name: None}).verdict == "inconclusive", name
    few = verdict.judge(NOTHING_SEEN | {"few": True})
    assert few.verdict == "inconclusive" and "too few distinct tasks" in few.because
    for facts in ALL:
        if verdict.judge(facts).verdict == "healthy":
            assert True not in facts.values(), facts


def test_what_is_not_known_is_said_to_be_open():
    assert verdict.list_open_causes(NOTHING_SEEN) == ()
    (said,) = verdict.list_open_causes(NOTHING_SEEN | {"threads": None})
    assert said.startswith("threads: ")


def test_confidence_in_a_difference_is_fisher_s():
    # Fisher's tea: 3 of 4 against 1 of 4, one-sided p = 17/70.
    assert confidence.of_difference(3, 4, 1, 4) == pytest.approx(1 - 17 / 70)
    assert confidence.of_difference(0, 100, 0, 100) == 0
    assert confidence.of_difference(100, 100, 0, 100) == confidence.MOST
    assert confidence.of_difference(2, 10, 2, 10) < 0.5


def test_confidence_grows_with_what_was_compared():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(50):
        compared, control = generator.randint(1, 300), generator.randint(0, 300)
        differing = generator.randint(1, compared)
        less = confidence.of_difference(differing, compared, 0, control)
        assert 0 <= less <= confidence.of_difference(differing, compared, 0, control + 50) <= 1


def test_confidence_in_health_counts_different_tasks_of_the_study():
    assert confidence.of_healthy(10, 10**6) == pytest.approx(1 - 0.9**10, abs=1e-4)
    assert confidence.of_healthy(36, 36) == confidence.MOST, "all tasks of a study tell all of it"
    assert confidence.of_healthy(0, 100) == confidence.of_healthy(0, 0) == 0
    # 4 of 36 tasks are touched: of 12 tasks none is one of them with C(32, 12) / C(36, 12).
    assert confidence.of_healthy(12, 36) == pytest.approx(1 - 10626 / 58905)
    for total in (1, 3, 24, 100, 10**6):
        needed = confidence.n_tasks_needed(total)
        assert confidence.of_healthy(needed, total) >= confidence.STATED
        assert confidence.of_healthy(needed - 1, total) < confidence.STATED


def test_process_reuse_is_lived_with_by_forks_where_they_are_a_cure():
    assert advice.recommend_preset("process-reuse", {"fork": False}) == "isolated-fork"
    assert advice.recommend_preset("process-reuse", {"fork": True}) == "cold"
    assert advice.recommend_preset("process-reuse", {}) == "cold"


@pytest.mark.parametrize("fork", [True, False, None])
def test_what_is_inconclusive_is_lived_with_by_the_safe_isolation(fork):
    preset = advice.recommend_preset("inconclusive", {"fork": fork})
    assert preset == ("isolated-fork" if fork is False else "cold")


def test_values_keep_what_their_preset_states():
    from mops_helm.values.presets import find

    for found in verdict.VERDICTS:
        values = advice.recommend_values(found, {"fork": False}, "bundle")
        stated = find(values["preset"]).values["executor"]
        assert {key: values["executor"][key] for key in stated} == stated


def test_values_where_no_preset_fits_name_none():
    image = advice.recommend_values("process-reuse", {"fork": False}, "image")
    assert "preset" not in image and image["executor"]["environment"] == "image"
    spoilt = advice.recommend_values("cached-environment", {"cold": True}, "bundle")
    assert spoilt == {"executor": {"type": "cold", "environment": "bundle", "forceFreshVenv": True}}
    leak = advice.recommend_values("memory", {}, "bundle", max_process_reuse=40)
    assert leak["executor"]["maxProcessReuse"] == 40
    assert advice.recommend_values("memory", {}, "bundle", process_bytes=2**30) == {
        "workers": {"memoryPerProcess": "2048Mi"}
    }


def test_a_diagnosis_is_plain_data():
    example = Example("3/0", "y", "1", "2", "different", column="n", row=0)
    found = Diagnosis(
        "healthy", "all the same", 0.999, "baseline", {}, Evidence(("cold", "cold"), example=example)
    )
    read = json.loads(json.dumps(found.as_json()))
    assert read["evidence"]["example"]["column"] == "n"
    assert read["polluter"] is None and read["sources"] == []
    arms = Diagnosis("healthy", "", 1, "", {}, Evidence(), arms=(ArmReport("cold", "same"),)).as_json()[
        "arms"
    ]
    assert arms[0]["state"] == "same"


def results_of(*values, seeds=None, sets=None):
    """Results of tasks with these outputs, as compare_seeds() takes them."""
    pairs = []
    for number, value in enumerate(values):
        seed = number if seeds is None else seeds[number]
        task = PlannedTask(0 if sets is None else sets[number], number, "", {}, seed)
        outcome = Outcome("ok", {"y": json.dumps(value).encode()})
        pairs.append((task, record_outcome(0, number, outcome)))
    return pairs


def test_a_seed_that_changes_nothing_is_told_from_one_that_does():
    equal = [{"n": 5, "seed": seed} for seed in range(10)]
    assert seed_use.compare_seeds(results_of(*equal)).is_unused, "its own seed does not count"
    assert not seed_use.compare_seeds(results_of(*equal[:3])).is_unused, "one set with three seeds is too few"
    assert not seed_use.compare_seeds(results_of(*equal[:-1], {"n": 6, "seed": 9})).is_unused
    three_sets = results_of(*[{"n": 5}] * 9, sets=[0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert seed_use.compare_seeds(three_sets).is_unused
    assert seed_use.compare_seeds(three_sets).n_pairs == 6


def test_a_repeated_seed_and_failed_tasks_say_nothing_of_seeds():
    assert seed_use.compare_seeds(results_of(*[{"n": 5}] * 12, seeds=[7] * 12)).n_pairs == 0
    failed = [(task, run._replace(status="failed")) for task, run in results_of(*[{"n": 5}] * 12)]
    assert seed_use.compare_seeds(failed).n_pairs == 0


@pytest.mark.parametrize(
    "values, is_drawn",
    [
        ([3, 1, 4, 1, 5, 9, 2, 6], True),
        ([1, 2, 3, 4, 5, 6, 7, 8], False),  # a counter
        ([1, 2, 2, 2, 2, 2, 2, 2], False),  # a setting that stays
        ([1, 0.5, 0.25, 0.12, 0.06, 0.03, 0.01, 0], False),  # halved each time
        ([[1, 5], [1, 3], [1, 6]], True),
        ([[1], [1, 2], [1, 2, 3]], False),  # a list that grows
        ([None, 1, "x"], False),
    ],
)
def test_what_goes_up_and_down_in_a_process_is_drawn_there(values, is_drawn):
    runs = [task_run for _, task_run in results_of(*({"n": value} for value in values))]
    assert seed_use.find_drawn_parts(runs, [("y", "n")]) == ([("y", "n")] if is_drawn else [])
