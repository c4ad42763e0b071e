"""The figures of a report, drawn by bokeh in the reader's browser.

Measurement, Maps -> Figures: a script for the page's head, and an element for each figure

Colours are of the Okabe-Ito set and of Viridis, which colour-blind people can distinguish; backgrounds are
left out and text is grey, so that a dark page works too. Names of parameters are passed to bokeh only as
text.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.layouts import column, row
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Range1d,
)
from bokeh.models.annotations.geometry import Span
from bokeh.models.annotations.legends import ColorBar
from bokeh.models.widgets import Select
from bokeh.palettes import Viridis256
from bokeh.plotting import figure
from bokeh.resources import Resources

from modelops_dask.report.measurement import LogHistogram, Measurement
from modelops_dask.report.space import MEASURES, Maps
from modelops_dask.shape import MIB

OK_COLOR, BAD_COLOR, LIMIT_COLOR = "#0072B2", "#D55E00", "#CC79A7"
GREY = "#767676"  # readable on white and on black
BARS = 60


@dataclass(frozen=True)
class Figures:
    """HTML: the contents of the head, elements by name, and the script that draws into them."""

    head: str
    script: str
    elements: dict[str, str]


def draw_figures(measurement: Measurement, maps: Maps) -> Figures:
    """Draw all figures that have data."""
    plots: dict[str, Any] = {}
    if measurement.attempts:
        plots["throughput"] = _draw_throughput(measurement)
    if measurement.seconds.total:
        plots["durations"] = _draw_durations(measurement.seconds)
    if measurement.peaks_ok.total or measurement.peaks_not_ok.total:
        plots["memory"] = _draw_memory(measurement)
    document = Document()
    if maps.axes:
        plots["space"], redraw = _draw_space(maps)
        document.js_on_event("document_ready", redraw)
    if not plots:
        return Figures("", "", {})
    for root in plots.values():
        document.add_root(root)
    script, elements = components(plots)
    resources = Resources(mode="inline", components=["bokeh", "bokeh-widgets"])
    return Figures(resources.render(), script, elements)


def _create_figure(x_label: str, y_label: str, **options: Any) -> figure:
    """An empty figure in the report's style. options are bokeh's."""
    style: dict[str, Any] = {
        "height": 280,
        "sizing_mode": "stretch_width",
        "x_axis_label": x_label,
        "y_axis_label": y_label,
        "tools": "xbox_zoom,reset,save",
        "toolbar_location": "above",
        "background_fill_alpha": 0,
        "border_fill_alpha": 0,
        "outline_line_color": None,
    }
    plot = figure(**style, **options)
    plot.toolbar.autohide = True
    plot.toolbar.logo = None
    for axis in plot.axis:
        axis.axis_label_text_color = axis.major_label_text_color = GREY
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = GREY
        axis.axis_label_text_font_style = "normal"
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
    plot.grid.grid_line_color = GREY
    plot.grid.grid_line_alpha = 0.2
    return plot


def _draw_bars(
    plot: figure, left: np.ndarray, right: np.ndarray, *, ok: np.ndarray, not_ok: np.ndarray, unit: str
) -> None:
    """Stacked bars, ok below; a legend only if there are both."""
    data = {"left": left, "right": right, "ok": ok, "not_ok": not_ok, "top": np.add(ok, not_ok)}
    source = ColumnDataSource({name: np.asarray(values, float) for name, values in data.items()})
    both = bool(np.any(not_ok))
    options: dict[str, Any] = {"left": "left", "right": "right", "source": source, "line_color": None}
    legend: dict[str, Any] = {"legend_label": "ok"} if both else {}
    bars = plot.quad(bottom=0, top="ok", fill_color=OK_COLOR, **options, **legend)
    if both:
        plot.quad(bottom="ok", top="top", fill_color=BAD_COLOR, legend_label="not ok", **options)
        plot.legend.background_fill_alpha = 0
        plot.legend.border_line_color = None
        plot.legend.label_text_color = GREY
        plot.legend.orientation = "horizontal"
        plot.add_layout(plot.legend[0], "above")
    rows = [("from", "@left{0.[000]}"), ("to", "@right{0.[000]}"), (f"ok {unit}", "@ok{0,0.[0]}")]
    rows += [(f"not ok {unit}", "@not_ok{0,0.[0]}")] if both else []
    plot.add_tools(HoverTool(renderers=[bars], tooltips=rows))
    plot.y_range.update(start=0)
    plot.x_range.update(range_padding=0)


def _draw_throughput(measurement: Measurement) -> figure:
    bins = measurement.timeline.compute_bins()
    scale, unit = _choose_time_unit(len(bins.ok) * bins.width)
    plot = _create_figure(f"running time ({unit})", "completed attempts per second")
    left = np.arange(len(bins.ok)) * bins.width / scale
    _draw_bars(plot, left, left + bins.width / scale, ok=bins.ok, not_ok=bins.not_ok, unit="a second")
    for pause_start, _ in bins.pauses:
        plot.add_layout(
            Span(location=pause_start / scale, dimension="height", line_dash="dashed", line_color=GREY)
        )
    return plot


def _choose_time_unit(seconds: float) -> tuple[float, str]:
    return next(
        (pair for pair in ((3600, "hours"), (60, "minutes")) if seconds >= 2 * pair[0]), (1, "seconds")
    )


def _draw_durations(seconds: LogHistogram) -> figure:
    values, counts = seconds.as_arrays()
    low, high = values[0] / 1.05, values[-1] * 1.05
    edges = np.geomspace(low, high, BARS + 1)
    plot = _create_figure("seconds of an attempt that ended ok", "attempts", x_axis_type="log")
    bars, _ = np.histogram(values, edges, weights=counts)
    _draw_bars(plot, edges[:-1], edges[1:], ok=bars, not_ok=np.zeros(BARS), unit="attempts")
    plot.xaxis.formatter = CustomJSTickFormatter(code="return String(Number(tick.toPrecision(3)))")
    return plot


def _draw_memory(measurement: Measurement) -> figure:
    limits = measurement.main_limits
    both = (measurement.peaks_ok, measurement.peaks_not_ok)
    edges = np.linspace(0, max(*(histogram.largest for histogram in both), *limits, 1) / MIB * 1.02, BARS + 1)
    bars_ok, bars_not_ok = (_count_peaks(histogram, edges) for histogram in both)
    plot = _create_figure("largest memory of an attempt (MiB)", "attempts")
    _draw_bars(plot, edges[:-1], edges[1:], ok=bars_ok, not_ok=bars_not_ok, unit="attempts")
    for limit in limits:
        plot.add_layout(Span(location=limit / MIB, dimension="height", line_color=LIMIT_COLOR, line_width=3))
    return plot


def _count_peaks(histogram: LogHistogram, edges_mib: np.ndarray) -> np.ndarray:
    peaks, counts = histogram.as_arrays()
    return np.histogram(peaks / MIB, edges_mib, weights=counts)[0]


def _draw_space(maps: Maps) -> tuple[Any, CustomJS]:
    """A heat map with selectable parameters and measure, and the script that draws it after each choice."""
    names = list(maps.axes)
    source = ColumnDataSource({name: [] for name in ("x", "y", "value", "sets", "column", "row")})
    mapper = LinearColorMapper(palette=Viridis256, low=0, high=1, nan_color="#00000000")
    plot = _create_figure("", "", x_range=Range1d(), y_range=Range1d())
    plot.name = "map"
    plot.height = 420 if len(names) > 1 else 160
    plot.grid.visible = False
    cells = plot.rect(
        "x", "y", 1, 1, source=source, line_color=None, fill_color={"field": "value", "transform": mapper}
    )
    bar = ColorBar(
        color_mapper=mapper, background_fill_alpha=0, major_label_text_color=GREY, title_text_color=GREY
    )
    plot.add_layout(bar, "right")
    for axis in plot.axis:
        axis.ticker = FixedTicker(ticks=[])
    tooltips = [("column", "@column"), ("row", "@row"), ("value", "@value{0.[000]}"), ("sets", "@sets{0,0}")]
    plot.add_tools(HoverTool(renderers=[cells], tooltips=tooltips))
    selects = {
        "columns": _create_menu("columns", names, names[0]),
        "rows": _create_menu("rows", names, names[min(1, len(names) - 1)]),
        "colour": _create_menu("colour", MEASURES, _choose_measure(maps)),
    }
    data = {
        "measures": MEASURES,
        "labels": {name: axis.labels for name, axis in maps.axes.items()},
        "cells": [[*pair, cell_values] for pair, cell_values in maps.cells.items()],
    }
    models = {"source": source, "mapper": mapper, "bar": bar, "plot": plot}
    redraw = CustomJS(args={**selects, **models, "data": json.dumps(data)}, code=_REDRAW)
    for select in selects.values():
        # on bokeh's white, independent of the page's background
        select.stylesheets = [".bk-input { color: black; }"]
        select.js_on_change("value", redraw)
    shown_selects = [selects["columns"], *([selects["rows"]] if len(names) > 1 else []), selects["colour"]]
    return column(row(*shown_selects), plot, sizing_mode="stretch_width"), redraw


def _create_menu(name: str, options: Iterable[str], value: str) -> Select:
    choices: list[str | tuple[Any, str]] = [*options]
    return Select(title=name, value=value, options=choices, name=name)


def _choose_measure(maps: Maps) -> str:
    """The share of failures if there are any, otherwise the time of tasks."""
    wrong = any(any(cells["share"]) for cells in maps.cells.values())
    return next(name for name, key in MEASURES.items() if key == ("share" if wrong else "seconds"))


_REDRAW = """
const {measures, labels, cells} = JSON.parse(data)
const [x, y] = [columns.value, rows.value]
if (x == y && columns.options.length > 1) {
  rows.value = columns.options.find((name) => name != x)  // which calls this again
  return
}
const turned = !cells.some((pair) => pair[0] == x && pair[1] == y)
const found = cells.find((pair) => turned ? pair[0] == y && pair[1] == x : pair[0] == x && pair[1] == y)[2]
const [xs, ys] = turned ? [found.y, found.x] : [found.x, found.y]
const value = found[measures[colour.value]].map((v) => v ?? NaN)
const known = value.filter((v) => !isNaN(v))
const share = measures[colour.value] == "share"
mapper.low = share ? 0 : Math.min(...known)
mapper.high = share ? 100 : Math.max(...known, mapper.low * 1.001, mapper.low + 1e-9)
bar.title = colour.value
source.data = {
  x: xs, y: ys, value, sets: found.sets,
  column: xs.map((i) => labels[x][i]), row: ys.map((i) => x == y ? "" : labels[y][i]),
}
const show = (axis, range, name, texts) => {
  range.start = -0.5
  range.end = texts.length - 0.5
  axis.axis_label = name
  const step = Math.ceil(texts.length / 8)
  axis.major_label_overrides = new Map(texts.map((text, i) => [i, text]))
  axis.ticker.ticks = texts.map((_, i) => i).filter((i) => i % step == 0)
}
show(plot.below[0], plot.x_range, x, labels[x])
show(plot.left[0], plot.y_range, x == y ? "" : y, x == y ? [""] : labels[y])
"""
