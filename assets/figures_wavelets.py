"""Pictures of the wavelet stages: the weights of a loss per scale over training, two streams of one window, and on
which channels a stage gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assets.drawing import MUTED, STAGE_COLOURS, Drawing, finished, legend, literal, panels, style
from assets.figures import prototype_attention
from assets.gains import Gain, tendencies


def curriculum(curves: Mapping[int, Sequence[Mapping[str, Any]]]) -> Drawing:
    """The weights of slow and fast scales over the steps: {seed: rows with step and weights}."""
    with style():
        figure, (axis,) = panels(1, 1, width=4.8, height=2.6)
        for i, rows in enumerate(filter(None, curves.values())):
            changes = rows[-1]["weights"]
            step = [*(change[0] for change in changes), rows[-1]["step"]]
            how: dict[str, Any] = {"alpha": 1 if i == 0 else 0.45, "where": "post"}
            for place, name, colour in ((1, "slow scales", 1), (2, "fast scales", 2)):
                weight = [change[place] for change in changes]
                axis.step(
                    step, [*weight, weight[-1]], color=STAGE_COLOURS[colour], label=name if i == 0 else None, **how
                )
        axis.set_xlabel("step")
        axis.set_ylabel("weight in the loss")
        axis.set_ylim(bottom=0)
        legend(figure, axis)
        return finished(figure)


def gate(seen: Mapping[str, Any]) -> Drawing:
    """One window as its slow and its fast part, and how much of each patch is slow, over time.

    Args:
        seen: `inside.json` of an evaluation with two streams.
    """
    both, (length, stride) = seen["streams"], seen["patch"]
    share = np.asarray(both["share"])
    with style():
        figure, (top, below) = panels(2, 1, width=6.4, height=2.9)
        top.plot(both["fast"], linewidth=0.8, color=STAGE_COLOURS[2], label="fast")
        top.plot(both["slow"], linewidth=1.4, color=STAGE_COLOURS[1], label=f"slow: {both['fastest']} and slower")
        top.set_ylabel("normalized value")
        below.plot(np.arange(len(share)) * stride + length / 2, 100 * share, color=STAGE_COLOURS[1])
        below.set(ylabel="slow, %", ylim=(0, 100))
        below.set_xlabel(f"middle of the patch (window {seen['window']}, {literal(str(seen['channel']))})")
        for axis in (top, below):
            axis.set_xlim(0, len(both["slow"]))
        legend(figure, top, columns=2)
        return finished(figure)


def fast_attention(seen: Mapping[str, Any]) -> Drawing:
    """Which prototypes the fast stream's patches attend to, as `figures.prototype_attention` shows the slow one's."""
    look = dict(seen["streams"]["look"])
    look["rows"] = look.pop("attention")
    return prototype_attention({**look, **{key: seen[key] for key in ("patch", "window", "channel")}})


def gains(rows: Sequence[Gain]) -> Drawing:
    """Gain over `base` per channel against its volatility and its number of periods: a column per stage, a dot per
    channel, a colour per benchmark, and the rank correlation above."""
    from matplotlib.ticker import MaxNLocator

    stages = list(dict.fromkeys(row.stage for row in rows))
    benchmarks = list(dict.fromkeys(row.benchmark for row in rows))
    found = {(t.stage, t.property): t for t in tendencies(list(rows))}
    with style():
        figure, axes = panels(2, len(stages), width=2.1 * len(stages) + 1, height=4.2, sharey=True)
        for i, stage in enumerate(stages):
            for axis, name, label in (
                (axes[i], "volatility", "volatility (step, σ)"),
                (axes[len(stages) + i], "periods", "periods"),
            ):
                for k, benchmark in enumerate(benchmarks):
                    own = [row for row in rows if row.stage == stage and row.benchmark == benchmark]
                    colour = STAGE_COLOURS[k % (len(STAGE_COLOURS) - 1) + 1]
                    places = [getattr(row, name) for row in own]
                    heights = [row.gain for row in own]
                    axis.plot(places, heights, "o", color=colour, markersize=4, label=literal(benchmark))
                axis.axhline(0, color=MUTED, linewidth=0.8)
                axis.set_xlabel(label)
                if name == "periods":
                    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                known = found[stage, name]
                told = (
                    ""
                    if known.rho != known.rho
                    else f"rank correlation {known.rho:+.2f}, p {known.p:.2g}, n {known.channels}"
                )
                axis.set_title(f"{stage}\n{told}" if name == "volatility" else told, fontsize=8)
        for axis in (axes[0], axes[len(stages)]):
            axis.set_ylabel("less error than base, %")
        legend(figure, axes[0])
        return finished(figure)
