"""Ids and seeds of the contract, against vectors computed here by other means."""

import hashlib
import json

import pytest

from modelops_dask.plan import contract

PARAMS = [
    {"beta": 0.1, "gamma": 2},
    {"gamma": 2, "beta": 0.1},
    {"name": "Zürich", "nested": {"b": [1, 2.5, None], "a": True}},
    {"tiny": 1e-7, "huge": 1e22, "negative_zero": -0.0, "one": 1.0},
    {},
]


def expected_id(params):
    text = json.dumps(params, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(f"contracts:param:v1|{text}".encode(), digest_size=32).hexdigest()


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_param_id_and_seeds(params):
    param_id = contract.param_id(params)
    assert param_id == expected_id(params)
    for replicate in (0, 1, 29):
        eight = hashlib.blake2b(f"{param_id}:{replicate}".encode(), digest_size=8).digest()
        assert contract.derived_seed(param_id, replicate) == int.from_bytes(eight, "big") % 4294967296


def test_a_fixed_vector():
    """Literals, so that a change of the rule itself cannot pass."""
    assert contract.canonical({"b": 1.0, "a": "é"}) == '{"a":"é","b":1.0}'
    param_id = contract.param_id({"beta": 0.5})
    assert param_id == "2f800997d18a62ca1b17cd9a8db5fa185d3210d53749a5d1674b23cc3d2b0d20"
    assert [contract.derived_seed(param_id, i) for i in range(2)] == [531761812, 2596221195]


def test_order_of_keys_means_nothing_and_number_kind_does():
    assert contract.param_id(PARAMS[0]) == contract.param_id(PARAMS[1])
    assert contract.param_id({"a": 1}) != contract.param_id({"a": 1.0})


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), "\ud800", {1: 2}, object(), {"a": [float("nan")]}]
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(ValueError):
        contract.param_id({"a": value})


@pytest.mark.parametrize(
    "seed, good", [(0, True), (2**64 - 1, True), (2**64, False), (-1, False), (True, False), (1.0, False)]
)
def test_explicit_seeds_are_uint64(seed, good):
    assert contract.is_seed(seed) is good


@pytest.mark.parametrize("text", ["models.seir/baseline", "a.b.C_1/x", "m.s/a-b_c.d", f"m.s/{'a' * 64}"])
def test_entrypoints(text):
    contract.check_entrypoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "models.seir",
        "seir/baseline",
        "models.seir/",
        "models.seir/Baseline",
        "1m.s/a",
        "m.s/-a",
        f"m.s/{'a' * 65}",
    ],
)
def test_bad_entrypoints(text):
    with pytest.raises(ValueError):
        contract.check_entrypoint(text)
