"""Figures as PNG for a paper and as SVG for a page that may be light or dark."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

import matplotlib

from train.report.figures import Figure

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

# Okabe & Ito 2008: told apart by readers who see red and green alike, on white and on black.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK = "#333333"
"""On the page it takes the colour of the text."""
WIDTH_INCHES = 4.2
"""On a phone, 9 points of it are still 11 pixels."""
DOTS_PER_INCH = 200
NAMES_IN_A_LINE = {12: 3, 24: 2}
"""How many names of at most so many characters stand beside each other in the legend."""
LEGEND_LINE_INCHES = 0.17
# A title of a book may hold a dollar sign.
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9, "text.parse_math": False}


def as_png(figure: Figure, path: Path) -> None:
    canvas = _drawn(figure)
    canvas.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(canvas)


def as_svg(figure: Figure) -> str:
    """An `<svg>` element that refers to nothing outside, for a page with other such elements."""
    # Names that clips are referred to by differ from figure to figure.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": figure.name}):
        canvas = _drawn(figure)
        text = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        canvas.savefig(text, format="svg", transparent=True, metadata=nothing)
        plt.close(canvas)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = svg.replace("'DejaVu Sans', 'Bitstream Vera Sans', ", "")
    described = f'<svg role="img" aria-label="{html.escape(figure.title)}" '
    return svg.replace("<svg ", described, 1).replace(INK, "currentColor")


def _drawn(figure: Figure) -> Canvas:
    with matplotlib.rc_context(STYLE):
        if figure.kind == "lines":
            canvas, axes = plt.subplots(figsize=(WIDTH_INCHES, 3.0), layout="constrained")
            _draw_lines(figure, axes)
        elif figure.kind == "points":
            lines = -(-len(figure.series) // _names_in_a_line(figure))
            height = 3.0 + LEGEND_LINE_INCHES * lines
            canvas, axes = plt.subplots(figsize=(WIDTH_INCHES, height), layout="constrained")
            _draw_points(figure, axes)
        elif figure.kind == "ranks":
            canvas, axes = plt.subplots(figsize=(WIDTH_INCHES, 3.0), layout="constrained")
            _draw_ranks(figure, axes)
        else:
            num_labels = max(len(series["labels"]) for series in figure.series)
            # The series of a label stand beneath each other.
            per_label = max(0.24, 0.14 + 0.07 * len(figure.series))
            height = 0.9 + per_label * num_labels
            canvas, axes = plt.subplots(figsize=(WIDTH_INCHES, height), layout="constrained")
            _draw_dots(figure, axes)
        _plain_axes(axes)
        if len(figure.series) > 1:
            place = {"loc": "outside upper left", "ncols": _names_in_a_line(figure)}
            canvas.legend(frameon=False, fontsize=8, labelcolor=INK, **place)
    return canvas


def _draw_lines(figure: Figure, axes: Axes) -> None:
    for color, series in zip(_colors(figure), figure.series, strict=True):
        axes.plot(series["x"], series["y"], color=color, linewidth=1.6, label=series["name"])
        if series["low"] != series["high"]:
            axes.fill_between(
                series["x"], series["low"], series["high"], color=color, alpha=0.2, linewidth=0
            )
    for name, level in figure.levels.items():
        axes.axhline(level, color=INK, linestyle="--", linewidth=0.8)
        axes.annotate(
            name,
            (1.0, level),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
            color=INK,
        )
    axes.set_xlabel(figure.x_label, color=INK)
    axes.set_ylabel(figure.y_label, color=INK)


def _draw_points(figure: Figure, axes: Axes) -> None:
    markers = "osD^vP"
    # Up at the cost at which the better one can be had, not between them.
    best = sorted((s["x"][0], s["y"][0]) for s in figure.series if s["on_frontier"])
    axes.step(*zip(*best, strict=True), where="post", color=INK, linewidth=0.8)
    for number, (color, series) in enumerate(zip(_colors(figure), figure.series, strict=True)):
        # There are more experiments than colours.
        marker = markers[number // len(COLORS) % len(markers)]
        fill = "full" if series["on_frontier"] else "none"
        axes.plot(
            series["x"], series["y"], marker, color=color, fillstyle=fill, label=series["name"]
        )
    axes.set_xlabel(figure.x_label, color=INK)
    axes.set_ylabel(figure.y_label, color=INK)


def _draw_ranks(figure: Figure, axes: Axes) -> None:
    for color, series in zip(_colors(figure), figure.series, strict=True):
        ranks = range(1, len(series["y"]) + 1)
        axes.plot(ranks, series["y"], ".", color=color, markersize=4, label=series["name"])
    for level in figure.levels.values():
        axes.axhline(level, color=INK, linestyle="--", linewidth=0.8)
    axes.set_xlabel(figure.x_label, color=INK)
    axes.set_ylabel(figure.y_label, color=INK)


def _draw_dots(figure: Figure, axes: Axes) -> None:
    labels = list(dict.fromkeys(label for s in figure.series for label in s["labels"]))
    shift = 0.6 / max(1, len(figure.series))
    for number, (color, series) in enumerate(zip(_colors(figure), figure.series, strict=True)):
        places = [
            labels.index(label) + (number - (len(figure.series) - 1) / 2) * shift
            for label in series["labels"]
        ]
        for place, low, high in zip(places, series["low"], series["high"], strict=True):
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=color, linewidth=1.6)
        axes.plot(series["y"], places, "o", color=color, markersize=4, label=series["name"])
    for level in figure.levels.values():
        axes.axvline(level, color=INK, linestyle="--", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(figure.x_label, color=INK)
    axes.set_ylabel(figure.y_label, color=INK)


def _names_in_a_line(figure: Figure) -> int:
    longest = max(len(series["name"]) for series in figure.series)
    return next((count for limit, count in NAMES_IN_A_LINE.items() if longest <= limit), 1)


def _colors(figure: Figure) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(len(figure.series))]


def _plain_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
