"""The figures of a report, drawn by bokeh in the reader's browser.

Measured, Maps -> Figures: a script for the page's head, and an element for each figure's place

Colours are of the Okabe-Ito set and of Viridis, which colour-blind people can tell apart; backgrounds are
left out and text is grey, so that a dark page works too. Names of parameters go to bokeh as text only.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.layouts import column, row
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Range1d,
    Select,
    Span,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure
from bokeh.resources import Resources

from modelops_dask.report.measure import LogHistogram, Measured
from modelops_dask.report.space import MEASURES, MIB, Maps

OK_COLOR, BAD_COLOR, LIMIT_COLOR = "#0072B2", "#D55E00", "#CC79A7"
GREY = "#767676"  # readable on white and on black
BARS = 60


@dataclass(frozen=True)
class Figures:
    """HTML: what the head needs, elements by name, and the script that draws into them."""

    head: str
    script: str
    places: dict[str, str]


def figures(measured: Measured, maps: Maps) -> Figures:
    """All figures for which there is anything to draw."""
    drawn: dict[str, Any] = {}
    if measured.attempts:
        drawn["throughput"] = _throughput(measured)
    if measured.seconds.total:
        drawn["durations"] = _durations(measured.seconds)
    if measured.peaks_ok.total or measured.peaks_not_ok.total:
        drawn["memory"] = _memory(measured)
    document = Document()
    if maps.axes:
        drawn["space"], redraw = _space(maps)
        document.js_on_event("document_ready", redraw)
    if not drawn:
        return Figures("", "", {})
    for root in drawn.values():
        document.add_root(root)
    script, places = components(drawn)
    resources = Resources(mode="inline", components=["bokeh", "bokeh-widgets"])
    return Figures(resources.render(), script, places)


def _figure(x: str, y: str, **more: Any) -> figure:
    drawn = figure(
        height=280,
        sizing_mode="stretch_width",
        x_axis_label=x,
        y_axis_label=y,
        tools="xbox_zoom,reset,save",
        toolbar_location="above",
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        **more,
    )
    drawn.toolbar.autohide = True
    drawn.toolbar.logo = None
    for axis in drawn.axis:
        axis.axis_label_text_color = axis.major_label_text_color = GREY
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = GREY
        axis.axis_label_text_font_style = "normal"
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
    drawn.grid.grid_line_color = GREY
    drawn.grid.grid_line_alpha = 0.2
    return drawn


def _bars(drawn: figure, left: Any, right: Any, ok: Any, not_ok: Any, what: str) -> None:
    """Stacked bars, ok below; a legend only if there are both."""
    data = {"left": left, "right": right, "ok": ok, "not_ok": not_ok, "top": np.add(ok, not_ok)}
    source = ColumnDataSource({name: np.asarray(values, float) for name, values in data.items()})
    both = bool(np.any(not_ok))
    edges = {"left": "left", "right": "right", "source": source, "line_color": None}
    legend = ({"legend_label": "ok"}, {"legend_label": "not ok"}) if both else ({}, {})
    bars = drawn.quad(bottom=0, top="ok", fill_color=OK_COLOR, **edges, **legend[0])
    if both:
        drawn.quad(bottom="ok", top="top", fill_color=BAD_COLOR, **edges, **legend[1])
        drawn.legend.background_fill_alpha = 0
        drawn.legend.border_line_color = None
        drawn.legend.label_text_color = GREY
        drawn.legend.orientation = "horizontal"
        drawn.add_layout(drawn.legend[0], "above")
    rows = [("from", "@left{0.[000]}"), ("to", "@right{0.[000]}"), (f"ok {what}", "@ok{0,0.[0]}")]
    rows += [(f"not ok {what}", "@not_ok{0,0.[0]}")] if both else []
    drawn.add_tools(HoverTool(renderers=[bars], tooltips=rows))
    drawn.y_range.start = 0
    drawn.x_range.range_padding = 0


def _throughput(measured: Measured) -> figure:
    bins = measured.timeline.bins()
    scale, unit = _time_unit(len(bins.ok) * bins.width)
    drawn = _figure(f"time in which tasks ran ({unit})", "attempts ended a second")
    left = np.arange(len(bins.ok)) * bins.width / scale
    _bars(drawn, left, left + bins.width / scale, bins.ok, bins.not_ok, "a second")
    for at, _ in bins.pauses:
        drawn.add_layout(Span(location=at / scale, dimension="height", line_dash="dashed", line_color=GREY))
    return drawn


def _time_unit(seconds: float) -> tuple[float, str]:
    return next(
        (pair for pair in ((3600, "hours"), (60, "minutes")) if seconds >= 2 * pair[0]), (1, "seconds")
    )


def _durations(seconds: LogHistogram) -> figure:
    values, counts = seconds.arrays()
    low, high = values[0] / 1.05, values[-1] * 1.05
    edges = np.geomspace(low, high, BARS + 1)
    drawn = _figure("seconds of an attempt that ended ok", "attempts", x_axis_type="log")
    bars, _ = np.histogram(values, edges, weights=counts)
    _bars(drawn, edges[:-1], edges[1:], bars, np.zeros(BARS), "attempts")
    drawn.xaxis.formatter = CustomJSTickFormatter(code="return String(Number(tick.toPrecision(3)))")
    return drawn


def _memory(measured: Measured) -> figure:
    limits = measured.shown_limits
    both = (measured.peaks_ok, measured.peaks_not_ok)
    edges = np.linspace(0, max(*(h.largest for h in both), *limits, 1) / MIB * 1.02, BARS + 1)
    bars = [np.histogram(h.arrays()[0] / MIB, edges, weights=h.arrays()[1])[0] for h in both]
    drawn = _figure("largest memory of an attempt (MiB)", "attempts")
    _bars(drawn, edges[:-1], edges[1:], *bars, "attempts")
    for limit in limits:
        drawn.add_layout(Span(location=limit / MIB, dimension="height", line_color=LIMIT_COLOR, line_width=3))
    return drawn


def _space(maps: Maps) -> tuple[Any, CustomJS]:
    """A heat map whose parameters and measure can be chosen, and what draws it, now and after each choice."""
    names = list(maps.axes)
    source = ColumnDataSource({name: [] for name in ("x", "y", "value", "sets", "column", "row")})
    mapper = LinearColorMapper(palette=Viridis256, low=0, high=1, nan_color="#00000000")
    drawn = _figure("", "", x_range=Range1d(), y_range=Range1d())
    drawn.name = "map"
    drawn.height = 420 if len(names) > 1 else 160
    drawn.grid.visible = False
    cells = drawn.rect(
        "x", "y", 1, 1, source=source, line_color=None, fill_color={"field": "value", "transform": mapper}
    )
    bar = ColorBar(
        color_mapper=mapper, background_fill_alpha=0, major_label_text_color=GREY, title_text_color=GREY
    )
    drawn.add_layout(bar, "right")
    for axis in drawn.axis:
        axis.ticker = FixedTicker(ticks=[])
    shown = [("column", "@column"), ("row", "@row"), ("value", "@value{0.[000]}"), ("sets", "@sets{0,0}")]
    drawn.add_tools(HoverTool(renderers=[cells], tooltips=shown))
    selects = {
        "columns": Select(title="columns", value=names[0], options=names, name="columns"),
        "rows": Select(title="rows", value=names[min(1, len(names) - 1)], options=names, name="rows"),
        "colour": Select(title="colour", value=_first_measure(maps), options=list(MEASURES), name="colour"),
    }
    data = {
        "measures": MEASURES,
        "labels": {name: axis.labels for name, axis in maps.axes.items()},
        "cells": [[*pair, found] for pair, found in maps.cells.items()],
    }
    models = {"source": source, "mapper": mapper, "bar": bar, "plot": drawn}
    redraw = CustomJS(args={**selects, **models, "data": json.dumps(data)}, code=_REDRAW)
    for select in selects.values():
        select.stylesheets = [".bk-input { color: black; }"]  # on bokeh's white, whatever the page's is
        select.js_on_change("value", redraw)
    offered = [selects["columns"], *([selects["rows"]] if len(names) > 1 else []), selects["colour"]]
    return column(row(*offered), drawn, sizing_mode="stretch_width"), redraw


def _first_measure(maps: Maps) -> str:
    """What went wrong if anything did, else the time that tasks took."""
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
