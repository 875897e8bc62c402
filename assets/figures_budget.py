"""Pictures of a token budget: which patches are read and why, whether its premises hold, what each size costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assets.drawing import Drawing, finished, legend, literal, panels, shades, style


def kept_tokens(seen: Mapping[str, Any]) -> Drawing:
    """Which patches of one window the language model reads, and which stand for which: the window with the patches read
    shaded by their evidence, below it every patch in the colour of the one that stands for it.

    Args:
        seen: `inside.json` of an evaluation with a token budget.
    """
    budget, (length, stride) = seen["budget"], seen["patch"]
    series, kept, owner = (np.asarray(budget[key]) for key in ("series", "kept", "owner"))
    evidence = [value for value in budget["evidence"] if value is not None]
    most = max(evidence, default=1.0) or 1.0
    groups = shades(len(kept))
    with style():
        figure, (top, below) = panels(2, 1, width=6.4, height=2.9)
        top.plot(series, linewidth=0.9, color="black")
        for place, value in zip(kept, budget["evidence"], strict=True):
            strength = 1.0 if value is None else 0.15 + 0.85 * value / most
            top.axvspan(place * stride, min(place * stride + length, len(series)), alpha=0.45 * strength, linewidth=0)
        top.set_ylabel("normalized value")
        at = {int(place): i for i, place in enumerate(kept)}
        for patch, of in enumerate(owner):
            below.bar(patch * stride, 1.0, width=stride, align="edge", color=groups[at[int(of)]], edgecolor="none")
            if int(of) == patch:
                below.plot(patch * stride + stride / 2, 0.5, marker="o", markersize=3, color="black")
        below.set_yticks([])
        below.set_ylabel("read as")
        below.set_xlabel(f"first step of the patch (window {seen['window']}, {literal(str(seen['channel']))})")
        for axis in (top, below):
            axis.set_xlim(0, len(series))
            axis.grid(False)
        return finished(figure)


def premises(found: Mapping[str, Any], title: str) -> Drawing:
    """What `wavecore.premises` measured: how unevenly patches contribute, how evidence falls from patch to patch, where
    the patches' attention goes by layer, and what it costs to take the prompt away from a layer on."""
    share = 100 * np.asarray(found["contribution"])
    evidence = np.asarray(found["evidence"])
    told = 100 * np.asarray(found["influence"])
    depths = [row["depth"] for row in found["cut"]]
    with style():
        figure, (one, two, three, four) = panels(2, 2, width=7.2, height=4.6)
        one.plot(np.arange(1, len(share) + 1), share, color="black", label="measured")
        one.plot([0, len(share)], [0, 100], color="grey", linewidth=0.8, linestyle="--", label="all alike")
        one.set(xlabel="patches, most first", ylabel="spectrum held, %")
        one.legend(fontsize="small")
        two.plot(np.arange(2, len(evidence) + 2), evidence, color="black")
        two.set(xlabel="patches kept", ylabel="evidence of the next one", ylim=(0, None))
        at = np.arange(1, len(told) + 1)
        three.bar(at, told[:, 0], label="description, task", color=shades(3)[0])
        three.bar(at, told[:, 1], bottom=told[:, 0], label="facts of the window", color=shades(3)[2])
        three.set(xlabel="layer", ylabel="attention to the prompt, %")
        legend(figure, three, columns=2)
        cut = found["cut"]
        four.plot(depths, [100 * row["change"] for row in cut], marker="o", color="black", label="from all layers")
        own = [100 * row["added"] for row in cut[1:]]
        four.plot(depths[1:], own, marker="s", linestyle="--", color="grey", label="from one layer less")
        four.set(xlabel="layers that see the prompt", ylabel="forecast changed, % of its spread", ylim=(0, None))
        four.legend(fontsize="small")
        figure.suptitle(literal(title))
        return finished(figure)


def kept_curve(rows: Sequence[Mapping[str, Any]], title: str) -> Drawing:
    """Test error and time of a trained budget against the patches that are read.

    Args:
        rows: of `wavecore bench kept`, as plain values.
    """
    tried = [row for row in rows if row["path"] == "budget"]
    prompts = [(row["facts"], row["depth"]) for row in tried]
    wide = sorted({pair for pair in prompts if prompts.count(pair) > 1}, reverse=True)
    with style():
        figure, (error, times) = panels(1, 2, width=7.2, height=2.8)
        for (facts, depth), colour in zip(wide, shades(len(wide)), strict=True):
            own = [row for row, pair in zip(tried, prompts, strict=True) if pair == (facts, depth)]
            own.sort(key=lambda row: row["tokens"])
            at = [row["tokens"] for row in own]
            label = f"facts in {facts}, rest of the prompt in {depth} layer{'s' if depth > 1 else ''}"
            error.plot(at, [row["mse"] for row in own], marker="o", color=colour, label=label)
            times.plot(at, [row["ratio_median"] for row in own], marker="o", color=colour)
        chosen = next(row for row in tried if row["chosen"])
        error.plot(chosen["tokens"], chosen["mse"], marker="o", markersize=10, fillstyle="none", color="black")
        error.axhline(chosen["other_mse"], linewidth=0.8, linestyle="--", color="grey", label=chosen["other"])
        error.set(xlabel="patches read", ylabel="test MSE", xscale="log")
        times.set(xlabel="patches read", ylabel=f"times as fast as {chosen['other']}", xscale="log", ylim=(0, None))
        ticks = sorted({row["tokens"] for row in tried})
        for axis in (error, times):
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.minorticks_off()
        times.set_title(literal(title), fontsize="small", loc="right")
        legend(figure, error, columns=2)
        return finished(figure)
