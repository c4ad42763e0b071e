"""Results that depend on the machine or the day: real probes of models that do, and of one that does not."""

from dataclasses import replace

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask import bundle
from modelops_dask.diagnose.causes import surroundings
from modelops_dask.diagnose.trials import probe

MODELS = {
    "": "str(seed)",
    "hash seed (PYTHONHASHSEED)": "str(hash('ward'))",
    "locale (LC_ALL)": "locale.getpreferredencoding(False)",
    "time zone (TZ)": "str(time.localtime(0).tm_hour)",
    "order of directory listings": "str([path.name for path in pathlib.Path('wards').iterdir()])",
    # In UTC: near the end of a month, the local date does depend on the time zone.
    "clock": "str(datetime.datetime.now(datetime.timezone.utc).month)",
}


def probed_axes(tmp_path, expression):
    text = (
        "import datetime, locale, os, pathlib, time\n"
        f"def wire(entrypoint, params, seed):\n    return {{'y': {expression}}}\n"
    )
    source = write_bundle(tmp_path / "source", {"wire.py": text})
    (source / "wards").mkdir()
    for name in "abc":
        (source / "wards" / name).write_text(name)
    chosen = settings(tmp_path, executor_environment="image", seed_globals=False)
    one = bundle.fetch(str(source), chosen.bundles_cache_dir)
    calls = [("model/scenario", {}, seed) for seed in (1, 2)]
    return surroundings.find_axes(lambda request: probe.run(one, chosen, calls, request, timeout_seconds=120))


@pytest.mark.parametrize("name", MODELS)
def test_what_of_the_machine_and_the_day_decides_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    axes = probed_axes(tmp_path, MODELS[name])
    assert [axis.name for axis in axes] == ([name] if name else [])


def test_every_axis_has_a_model():
    assert {axis.name for axis in (*surroundings.AXES, surroundings.CLOCK)} == MODELS.keys() - {""}


@pytest.mark.parametrize("expression", ["str(os.getpid())", "str(time.time_ns())"])
def test_nothing_is_named_where_probes_differ_anyway(tmp_path, expression):
    axes = probed_axes(tmp_path, expression)
    assert axes is None or [axis.name for axis in axes] == ["clock"]


@pytest.mark.parametrize("call", ["os.listdir(folder)", "[entry.name for entry in os.scandir(folder)]"])
def test_listings_are_reversed_and_nothing_else(tmp_path, call):
    for name in "abc":
        (tmp_path / name).write_text(name)
    expression = f"str({call.replace('folder', repr(str(tmp_path)))})"
    text = f"import os\ndef wire(entrypoint, params, seed):\n    return {{'y': {expression}}}\n"
    chosen = settings(tmp_path, executor_environment="image", seed_globals=False)
    one = bundle.fetch(str(write_bundle(tmp_path / "source", {"wire.py": text})), chosen.bundles_cache_dir)

    def listing(request):
        result = probe.run(one, chosen, [("model/scenario", {}, 1)], request, timeout_seconds=120)
        return eval(result.answers[0].outputs["y"])

    usual, backwards = (
        listing(surroundings.PLAIN),
        listing(replace(surroundings.PLAIN, reverses_listings=True)),
    )
    assert backwards == usual[::-1] and len(usual) > 2
