"""Every compression that a preset asks for is installed: a Dask process that lacks it does not start."""

from pathlib import Path

import dask
import pytest
import yaml
from distributed.protocol.compression import compressions

PRESETS = sorted((Path(__file__).parents[2] / "values").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_compression_of_presets(preset):
    values = yaml.safe_load(preset.read_text())
    with dask.config.set(values.get("dask", {}).get("config", {})):
        assert dask.config.get("distributed.comm.compression") in compressions
