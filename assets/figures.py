"""The pictures of the project. Each function draws one; `Drawing` makes it a PNG for the UI or an SVG for the report.

Stages have their colours in one order everywhere, the lowest rung grey; the truth is always in ink.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.drawing import (
    BAND_COLOURS,
    GRID,
    INK,
    MUTED,
    SPLIT_COLOURS,
    STAGE_COLOURS,
    Drawing,
    as_markdown,
    date_axis,
    drawable,
    finished,
    legend,
    line,
    literal,
    panels,
    shades,
    shortened,
    style,
    ticks,
)
from wavecore import stages as ladder

if TYPE_CHECKING:
    from wavecore.judge.significance import Comparison

__all__ = [
    "Drawing",
    "Forecast",
    "as_array",
    "as_markdown",
    "energy_by_channel",
    "error_by_scale",
    "error_by_step",
    "forecasts",
    "intervals",
    "prototype_attention",
    "series_overview",
    "training_curves",
]


# More than so many lines or rows of a picture are drawn closer, or chosen from.
FEW = 8
# So many prototypes are drawn, and their share of the attention is told.
TOP = 10


@dataclass(frozen=True)
class Forecast:
    """One window of one channel, for `forecasts`.

    Attributes:
        title: what is shown, such as the channel and the time of the first target.
        history: [k] the last inputs (may be none), truth: [H], both in the unit of the axis.
        stages: [H] per stage.
    """

    title: str
    history: np.ndarray
    truth: np.ndarray
    stages: Mapping[str, np.ndarray]


def stage_colours(names: Sequence[str]) -> dict[str, str]:
    """One colour per stage by its place on the ladder, so that it is the same in every picture; a variant has its
    stage's, lighter."""
    # The last value came last to the stages and has the last colour, so that the others keep theirs.
    known = sorted((name for name in ladder.names() if "." not in name), key=lambda name: name == "last_value")
    tops = len(STAGE_COLOURS) - 1

    def own(name: str, i: int) -> str:
        place = known.index(name) if name in known else i
        return STAGE_COLOURS[place if place == 0 else (place - 1) % tops + 1]

    def lighter(name: str) -> str:
        of = [other for other in ladder.names() if other.startswith(name.split(".")[0] + ".")]
        share = 0.3 + 0.5 * of.index(name) / len(of)
        red, green, blue = (int(own(name.split(".")[0], 0)[k : k + 2], 16) for k in (1, 3, 5))
        return "#" + "".join(f"{round(value + share * (255 - value)):02x}" for value in (red, green, blue))

    return {
        name: lighter(name) if "." in name and name in ladder.names() else own(name, i) for i, name in enumerate(names)
    }


def as_array(values: Sequence[float | None]) -> np.ndarray:
    """Numbers as float64, NaN for None: what JSON gives."""
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def series_overview(
    timestamps: np.ndarray, channels: Sequence[str], values: np.ndarray, splits: Mapping[str, tuple[int, int]]
) -> Drawing:
    """One small panel per channel over time, validation and test shaded, missing values left blank.

    Args:
        timestamps: [n] datetime64; values: [n, N] in original units, NaN where missing.
        splits: half-open row ranges per split; none are shaded if it is empty.
    """
    with style():
        figure, axes = panels(len(channels), 1, width=7.4, height=0.62 * len(channels) + 0.75, sharex=True)
        for i, (axis, name) in enumerate(zip(axes, channels, strict=True)):
            line(axis, timestamps, values[:, i], color=STAGE_COLOURS[1], linewidth=0.5)
            for split, (lo, hi) in splits.items():
                if hi <= lo:
                    continue
                first, last = timestamps[lo], timestamps[min(hi, len(timestamps)) - 1]
                if colour := SPLIT_COLOURS.get(split):
                    axis.axvspan(first, last, color=colour, alpha=0.22, lw=0, zorder=0)
                if i == 0:
                    axis.annotate(
                        split, (first + (last - first) / 2, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2),
                        textcoords="offset points", ha="center", va="bottom", fontsize=7, color=MUTED,
                        rotation=0 if hi - lo > 0.08 * len(timestamps) else 35,
                    )  # fmt: skip
            axis.set_ylabel(literal(shortened(name)), rotation=0, ha="right", va="center", fontsize=8)
            axis.yaxis.set_major_locator(ticks(2))
            axis.tick_params(labelsize=7)
            axis.grid(False)
            axis.margins(x=0)
        date_axis(axes[-1])
        return finished(figure)


def forecasts(windows: Sequence[Forecast], stages: Sequence[str], unit: str = "", columns: int = 1) -> Drawing:
    """Forecasts against the truth, one panel per window: the end of the input, then truth and every stage.

    Args:
        stages: all stages, lowest rung first, so that colours agree between pictures.
        unit: of the vertical axis.
    """
    colours = stage_colours(stages)
    rows = -(-len(windows) // columns)
    with style():
        figure, axes = panels(rows, columns, width=4.8 * columns, height=1.75 * rows + 0.55)
        for axis, window in zip(axes, windows, strict=False):
            past, ahead = np.arange(-len(window.history), 0), np.arange(len(window.truth))
            # The truth is one line through past and future.
            both = np.concatenate([window.history, window.truth])
            if len(past):
                axis.axvspan(-0.5, len(ahead) - 0.5, color=GRID, alpha=0.35, lw=0)
            axis.plot(np.concatenate([past, ahead]), both, color=INK, linewidth=1.1, label="truth")
            for stage in stages:
                if stage in window.stages:
                    axis.plot(ahead, window.stages[stage], color=colours[stage], linewidth=1.3, label=literal(stage))
            axis.set_title(literal(window.title))
            axis.margins(x=0.01)
        for axis in axes[len(windows) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(windows) - columns) : len(windows)]:
            axis.set_xlabel("steps from the first target")
        if unit:
            for axis in axes[::columns]:
                axis.set_ylabel(unit)
        legend(figure, axes[0])
        return finished(figure)


def training_curves(
    curves: Mapping[int, Sequence[Mapping[str, Any]]], title: str = "", metric: str = "error"
) -> Drawing:
    """The curves of all seeds in one picture: {seed: rows with step, loss, select}; kept is the smallest `select`.

    A seed without rows learned nothing and is left out.
    """
    drawn = []
    for rows in filter(None, curves.values()):
        step, loss, select = (as_array([row[k] for row in rows]) for k in ("step", "loss", "select"))
        drawn.append((step, loss, select, int(step[np.nanargmin(select)])))
    return _curves(drawn, title, metric)


def _curves(drawn: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, int]], title: str, metric: str) -> Drawing:
    with style():
        figure, (axis,) = panels(1, 1, width=4.8, height=2.6)
        for i, (step, loss, select, best_step) in enumerate(drawn):
            kept = "kept" if len(drawn) > 1 else f"kept: step {best_step:,}"
            names = ("training", "validation (select)", kept) if i == 0 else (None, None, None)
            # The first seed in full strength, the others behind it.
            how: dict[str, Any] = {"alpha": 1 if i == 0 else 0.45, "zorder": 3 if i == 0 else 2}
            axis.plot(step, loss, color=STAGE_COLOURS[0], linewidth=1.2, label=names[0], **how)
            axis.plot(step, select, color=STAGE_COLOURS[1], linewidth=1.6, label=names[1], **how)
            at = int(np.argmin(np.abs(step - best_step)))
            axis.plot(step[at], select[at], "o", color=STAGE_COLOURS[2], markersize=5, label=names[2], zorder=4)
        axis.set_xlabel("step")
        axis.set_ylabel(metric)
        axis.set_title(literal(title))
        legend(figure, axis)
        return finished(figure)


def error_by_step(errors: Mapping[str, np.ndarray], metric: str = "MSE") -> Drawing:
    """Error per horizon step, one line per stage (lowest rung first): {stage: [H]}."""
    colours = stage_colours(list(errors))
    with style():
        figure, (axis,) = panels(1, 1, width=4.8, height=2.6)
        for stage, values in errors.items():
            axis.plot(np.arange(1, len(values) + 1), values, color=colours[stage], linewidth=1.5, label=literal(stage))
        axis.set_xlabel("horizon step")
        axis.set_ylabel(metric)
        axis.set_ylim(bottom=0)
        axis.margins(x=0.01)
        legend(figure, axis)
        return finished(figure)


def error_by_scale(
    errors: Mapping[str, np.ndarray], bands: Sequence[str], energy_share: np.ndarray | None = None, metric: str = "MSE"
) -> Drawing:
    """Error per wavelet scale: a panel per scale with an axis of its own, a dot per stage, lowest rung on top.

    Args:
        errors: {stage: [J+1]}, lowest rung first. bands: J+1 names, slow to fast.
        energy_share: [J+1], of the targets, named above each panel; left out if None.
    """
    colours, at = stage_colours(list(errors)), np.arange(len(errors))
    with style():
        figure, axes = panels(1, len(bands), width=5.6, height=0.2 * len(errors) + 0.95, sharey=True)
        for j, (axis, band) in enumerate(zip(axes, bands, strict=True)):
            values = np.array([found[j] for found in errors.values()])
            axis.scatter(values, at, s=26, color=[colours[stage] for stage in errors], zorder=3)
            held = "" if energy_share is None else f": {100 * energy_share[j]:.0f}%"
            axis.set_title(f"{literal(band)}{held}")
            axis.xaxis.set_major_locator(ticks(2))
            axis.grid(True, axis="y")
            axis.margins(x=0.12)
        axes[0].set_yticks(at, [literal(stage) for stage in errors])
        axes[0].set_ylim(len(errors) - 0.5, -0.5)
        axes[0].set_xlabel(metric)
        return finished(figure)


def intervals(rows: Sequence[Comparison], unit: str = "difference in MSE") -> Drawing:
    """Differences between stages: a dot and its interval, with zero marked. Left of zero the first stage is better.

    A pair without a test (`reason`) keeps its line, with its difference where there is one.
    """
    colour = {"better": STAGE_COLOURS[3], "worse": STAGE_COLOURS[2]}
    with style():
        figure, (axis,) = panels(1, 1, width=4.8, height=(0.42 if len(rows) <= FEW else 0.24) * len(rows) + 0.95)
        axis.axvline(0, color=INK, linewidth=0.9)
        for i, row in enumerate(rows):
            ink = colour.get(row.verdict, MUTED)
            if math.isfinite(row.low) and math.isfinite(row.high):
                axis.plot([row.low, row.high], [i, i], color=ink, linewidth=2.2, solid_capstyle="round")
            if math.isfinite(row.effect):
                axis.plot([row.effect], [i], "o", color=ink, markersize=6)
        axis.set_yticks(range(len(rows)), [f"{literal(r.stage)} − {literal(r.other)}" for r in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlabel(f"{unit} (left of 0 is better)")
        axis.xaxis.set_major_locator(ticks(5))
        axis.grid(False, axis="y")
        axis.margins(x=0.12)
        return finished(figure)


def energy_by_channel(channels: Sequence[str], bands: Sequence[str], share: np.ndarray) -> Drawing:
    """Wavelet energy share per channel as stacked bars, slow bands dark, fast ones light.

    Args:
        bands: J+1 names, slow to fast. share: [N, J+1].
    """
    at = np.arange(len(channels))
    places = np.linspace(0, len(BAND_COLOURS) - 1, len(bands)).round().astype(int)
    colours = [BAND_COLOURS[i] for i in places] if len(bands) <= len(BAND_COLOURS) else shades(len(bands))
    with style():
        figure, (axis,) = panels(1, 1, width=4.8, height=0.27 * len(channels) + 1.1)
        left = np.zeros(len(channels))
        for band, colour, part in zip(bands, colours, 100 * np.asarray(share).T, strict=True):
            axis.barh(at, part, 0.74, left=left, color=colour, edgecolor="none", label=literal(band))
            left = left + part
        axis.set_yticks(at, [literal(shortened(c)) for c in channels])
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel("share of the energy, %")
        axis.grid(False)
        legend(figure, axis, columns=6)
        return finished(figure)


def prototype_attention(seen: Mapping[str, Any]) -> Drawing:
    """Which prototypes the patches of one window attend to most: a heat map, the time of the window from left to right.

    Args:
        seen: `inside.json` of an evaluation: rows [L, k] of attention, prototypes [k], patch (length, stride).
    """
    share = 100 * np.asarray(seen["rows"], dtype=np.float64).T[:TOP]
    stride = int(seen["patch"][1])
    read = f"first step of the patch (window {seen['window']}, {literal(str(seen['channel']))})"
    if seen.get("reads") == "wavelets":
        stride, read = 1, f"wavelet token, slow scales first (window {seen['window']}, {literal(str(seen['channel']))})"
    with style():
        figure, (axis,) = panels(1, 1, width=6.4, height=0.2 * len(share) + 1.3)
        extent = (0, share.shape[1] * stride, len(share) - 0.5, -0.5)
        image = axis.imshow(share, aspect="auto", cmap="cividis", extent=extent, interpolation="nearest")
        words = seen["words by mapping weight"] or seen["nearest words"]
        names = [
            f"{p}  {shortened(drawable(str(w[0][0])), 12)}"
            for p, w in zip(seen["prototypes"][:TOP], words[:TOP], strict=True)
        ]
        axis.set_yticks(range(len(names)), [literal(name) for name in names])
        axis.set_xlabel(read)
        axis.grid(False)
        figure.colorbar(image, ax=axis, label="attention, %", fraction=0.04, pad=0.02)
        return finished(figure)
