"""The table of reasoning, walked whole; how sure a verdict is; what to use meanwhile."""

import itertools
import json
import random

import pytest

from modelops_dask.diagnose.result import ArmReport, Diagnosis, Evidence, Example
from modelops_dask.diagnose.verdict import advice, confidence, verdict

ALL = [
    dict(zip(verdict.FACTS, combination, strict=True))
    for combination in itertools.product((True, False, None), repeat=len(verdict.FACTS))
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
    assert confidence.of_healthy(72) == confidence.MOST
    assert confidence.of_healthy(10) == pytest.approx(1 - 0.9**10)


def test_process_reuse_is_lived_with_by_forks_where_they_are_a_cure():
    assert advice.recommend_preset("process-reuse", {"fork": False}) == "isolated-fork"
    assert advice.recommend_preset("process-reuse", {"fork": True}) == "cold"
    assert advice.recommend_preset("process-reuse", {}) == "cold"


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
