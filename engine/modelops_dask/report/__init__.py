"""The report of a study as one HTML file that needs no network.

    store -> measurement.py: one pass over the parts, into counts, histograms, a timeline
          -> space.py: outcome by parameter values
          -> figures.py (bokeh) and page.py -> the text of the file

measurement.py stores only what fits a page, however many tasks there are. Everything that comes from a model,
such as tracebacks and names, is escaped in page.py and figures.py.

Nothing is written or run here.
"""

from modelops_dask.plan.spec import Spec
from modelops_dask.store.files import Store


def report(store: str | Store, spec: Spec | None = None) -> str:
    """The HTML of the report of the tasks of a spec, or else of the last request. Raises NoStudy,
    NotInStore.
    """
    from modelops_dask.report import figures, page, space
    from modelops_dask.report.measurement import measure

    opened = store if isinstance(store, Store) else Store(str(store))
    measurement = measure(opened, spec)
    maps = space.map_outcomes(measurement.plan, measurement.by_set)
    return page.render_page(measurement, maps, figures.draw_figures(measurement, maps))
