"""Pictures of a sweep: trials as lines across their settings, and what each setting explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import Normalize

from train.report.drawing import COLORS, DOTS_PER_INCH, INK, STYLE

# Beyond such a ratio of largest to smallest an axis is logarithmic.
_WIDE = 50


def draw_parallel(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    label: str,
    results: Sequence[float],
    path: Path,
) -> None:
    """A line for each trial through its settings to its result, the higher the lighter."""
    axes_of = [_axis([row[i] for row in rows]) for i in range(len(names))]
    axes_of.append(_axis([repr(value) for value in results]))
    titles = [*names, label]
    with matplotlib.rc_context(STYLE):
        canvas, axes = plt.subplots(figsize=(1.6 * len(titles) + 1.2, 3.4), layout="constrained")
        shade = Normalize(min(results), max(results))
        for number, result in enumerate(results):
            heights = [places[number] for places, _ in axes_of]
            color = matplotlib.colormaps["viridis"](shade(result))
            axes.plot(range(len(titles)), heights, color=color, linewidth=1.4)
        for place, (_, ticks) in enumerate(axes_of):
            axes.axvline(place, color=INK, linewidth=0.8)
            for height, text in ticks:
                axes.annotate(text, (place, height), xytext=(3, 2), textcoords="offset points")
        axes.set_xticks(range(len(titles)), titles, rotation=15)
        axes.set_yticks([])
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        canvas.savefig(path, dpi=DOTS_PER_INCH)
        plt.close(canvas)


def draw_importance(shares: Mapping[str, float], path: Path) -> None:
    with matplotlib.rc_context(STYLE):
        canvas, axes = plt.subplots(figsize=(5.0, 0.9 + 0.3 * len(shares)), layout="constrained")
        axes.barh(list(shares), list(shares.values()), color=COLORS[0])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the variance between trials that the setting explains alone")
        axes.spines[["top", "right"]].set_visible(False)
        canvas.savefig(path, dpi=DOTS_PER_INCH)
        plt.close(canvas)


def _axis(values: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights of the values between 0 and 1, and what is written at which height."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        names = list(dict.fromkeys(values))
        heights = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
        return [heights[value] for value in values], [(heights[n], n) for n in names]
    low, high = min(numbers), max(numbers)
    if low > 0 and high / low > _WIDE:
        numbers = [math.log(number) for number in numbers]
    first, last = min(numbers), max(numbers)
    places = [(n - first) / (last - first) if last > first else 0.5 for n in numbers]
    return places, [(min(places), f"{low:.4g}"), (max(places), f"{high:.4g}")]
