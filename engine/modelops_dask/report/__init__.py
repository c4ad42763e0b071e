"""What became of a study, as one HTML file that needs no network.

    store -> measure.py: one pass over the parts, into counts, histograms, a timeline
          -> space.py: outcome by parameter values
          -> figures.py (bokeh) and page.py -> the text of the file

measure.py keeps what fits a page, however many tasks there are. Everything that comes from a model, such as
tracebacks and names, is escaped in page.py and figures.py.

Does not write anything and runs nothing.
"""

from modelops_dask.store.files import Files
from modelops_dask.study.spec import Spec


def report(store: str | Files, spec: Spec | None = None) -> str:
    """The HTML of the report of the tasks of a spec, or else of the last request. NoStudy, NotInStore."""
    from modelops_dask.report import figures, measure, page, space

    files = store if isinstance(store, Files) else Files(str(store))
    measured = measure.measure(files, spec)
    maps = space.maps(measured.plan, measured.by_set)
    return page.page(measured, maps, figures.figures(measured, maps))
