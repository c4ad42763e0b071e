"""The locations of the chart, the presets and the schemas: inside the wheel, or in the checkout."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_DATA = _HERE / "data"
ROOT = _DATA if _DATA.is_dir() else _HERE.parents[1]

CHART = ROOT / "charts" / "modelops-dask"
PRESETS = ROOT / "values"
SCHEMAS = ROOT / "schemas"
