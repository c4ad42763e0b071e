"""Values are flattened to leaves and nested again without loss."""

from mops_helm.values.merge import overlay_values
from mops_helm.values.tree import flatten, flatten_dotted, nest

TREE = {
    "workers": {"threads": 2, "env": {}, "tolerations": [{"key": "a"}]},
    "preset": "",
    "tls": {"a.b": None},
}


def test_lists_and_empty_maps_are_leaves_in_the_order_of_the_tree():
    assert list(flatten(TREE).items()) == [
        (("workers", "threads"), 2),
        (("workers", "env"), {}),
        (("workers", "tolerations"), [{"key": "a"}]),
        (("preset",), ""),
        (("tls", "a.b"), None),
    ]
    assert flatten_dotted(TREE)["tls.a.b"] is None
    assert flatten({}) == {}


def test_nest_is_the_opposite_of_flatten():
    assert nest(flatten(TREE)) == TREE


def test_overlaying_merges_maps_replaces_all_else_and_changes_neither():
    over = {"workers": {"threads": {"a": 1}, "env": {"B": 1}, "tolerations": []}, "preset": None}
    before = nest(flatten(TREE))
    merged = overlay_values(TREE, over)
    assert merged == {
        "workers": {"threads": {"a": 1}, "env": {"B": 1}, "tolerations": []},
        "preset": None,
        "tls": {"a.b": None},
    }
    merged["workers"]["env"]["B"] = 2
    assert before == TREE and over["workers"]["env"] == {"B": 1}
