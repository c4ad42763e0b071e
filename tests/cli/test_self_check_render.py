"""What a summary prints of a self-check; the way back is a command whose values can be used as they stand."""

import shlex

import pytest

from modelops_dask.store.checks import Comparison, SelfCheck
from mops_helm.render.self_check import Origin, redo_commands, render_self_check
from mops_helm.study import command_line
from mops_helm.values import effective, layers

STORE = "/data/a store"


def check(cause="order", executor="isolated_warm", **more) -> SelfCheck:
    different = Comparison(3, 1, "00", executor, "different", outputs=("y", "time"), cause=cause, **more)
    return SelfCheck(n_equal=2, different=(different,))


def test_a_difference_prints_what_it_means_and_three_ways_on():
    lines = render_self_check(check(), STORE, Origin(spec="my study.yaml", bundle="../sir"))
    assert lines[0].endswith("3 tasks compared with a run alone in a new process, 1 different.")
    assert lines[2].endswith('volatile: ["time", "y"]')
    assert lines[3:] == [
        "To find the cause:",
        "  mops-helm diagnose 'my study.yaml' --bundle ../sir",
        "To replace the results by ones that earlier tasks cannot change:",
        "  mops-helm study run 'my study.yaml' --bundle ../sir --store '/data/a store' "
        "--preset isolated-fork --redo executor=isolated_warm",
    ]


def test_equal_is_a_line_and_nothing_compared_leads_to_verify():
    assert len(render_self_check(SelfCheck(n_equal=3), STORE, Origin())) == 1
    lines = render_self_check(SelfCheck(skipped="a task alone takes 90 s"), STORE, Origin())
    assert "a task alone takes 90 s" in lines[0]
    assert lines[1:] == ["  mops-helm study verify '/data/a store' --sample 1"]


@pytest.mark.parametrize("change", [{"cause": "seed"}, {"executor": "cold"}])
def test_where_no_isolation_helps_none_is_recommended(change):
    assert not any("--redo" in line for line in render_self_check(check(**change), STORE, Origin()))


def test_isolation_that_makes_replicates_equal_is_recommended_only_to_models_without_chance():
    lines = render_self_check(check(equal_replicates=True), STORE, Origin())
    (place,) = (number for number, line in enumerate(lines) if "--redo" in line)
    assert "replicates of a set return the same" in lines[place - 1]
    assert "Only if the model is not random" in lines[place - 1]


@pytest.mark.parametrize(
    ("presets", "sets"),
    [
        ([], []),
        (["baseline"], []),
        (["simulation", "direct"], ["workers.replicas=1,workers.processes=1"]),
        ([], ["executor.type=direct"]),
        ([], ["workers.replicas=1,executor.type=direct,executor.environment=image"]),
        (["simulation"], ["executor.environment=image"]),
        (["single-process"], ["workers.replicas=1"]),
    ],
)
@pytest.mark.parametrize("executor", ["isolated_warm", "isolated_fork"])
def test_the_way_back_has_values_that_can_be_used_and_isolate(presets, sets, executor):
    origin = Origin(
        flags=command_line.format_shape_flags(presets, [], sets),
        binds_executor=command_line.binds_executor(sets),
    )
    ((command,),) = [redo_commands(STORE, origin, {executor})]
    words = shlex.split(command)
    typed = {
        flag: [words[place + 1] for place, word in enumerate(words) if word == flag]
        for flag in ("--preset", "--set", "--redo")
    }
    values = layers.resolve(typed["--preset"], [], typed["--set"]).values
    expected = "isolated_fork" if executor == "isolated_warm" else "cold"
    assert effective.settings(values).executor_type == expected
    assert typed["--redo"] == [f"executor={executor}"]
    if "executor.environment=image" in ",".join(sets):
        assert effective.settings(values).executor_environment == "image"
