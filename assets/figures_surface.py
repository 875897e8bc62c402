"""The picture of `wavecore bench surface`: what fewer tokens cost in error and save in time and memory, by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assets.drawing import Drawing, finished, legend, literal, panels, shades, style
from wavecore.errors import StorageError


def surface(rows: Sequence[Mapping[str, Any]], where: str) -> Drawing:
    """Test error, times and peak memory over the share of the tokens that is read, a line per length T.

    Args:
        rows: of `wavecore bench surface`, as plain values, others are passed over; a row without a share reads all
            tokens. A peak that was not measured is not drawn.
        where: the rows are from, for errors.

    Raises:
        StorageError: no such rows, or of several benchmarks, stages or seeds.
    """
    rows = [row for row in rows if row["bench"] == "surface"]
    kinds = sorted({(row["benchmark"], row["path"], row["seed"]) for row in rows if "share" in row})
    if not kinds:
        raise StorageError(f"{where}: no row of `surface`", f"wavecore bench surface -b etth1_96 --json > {where}")
    if len(kinds) > 1 or len({(row["benchmark"], row["seed"]) for row in rows}) > 1:
        raise StorageError(f"{where}: surfaces of several benchmarks, stages or seeds", "a file for each")
    title = "{}, {}, seed {}".format(*kinds[0])
    lengths = sorted({row["window"] for row in rows})
    shares = sorted({row.get("share", 1.0) for row in rows})
    drawn = (
        ("mse", "test MSE", None),
        ("seconds", "a forecast of one batch, seconds", 0),
        ("train_seconds", "training, seconds", 0),
        ("train_mb", "peak memory of training, MiB", 0),
    )
    with style():
        figure, axes = panels(2, 2, width=7.2, height=4.6)
        for axis, (key, label, low) in zip(axes, drawn, strict=True):
            for window, colour in zip(lengths, shades(len(lengths)), strict=True):
                own = sorted((row for row in rows if row["window"] == window), key=lambda row: row.get("share", 1.0))
                own = [row for row in own if isinstance(row.get(key), int | float)]
                at = [row.get("share", 1.0) for row in own]
                axis.plot(at, [row[key] for row in own], marker="o", color=colour, label=f"T = {window:,}")
            axis.set(xlabel="tokens read, %", ylabel=label, xscale="log", ylim=(low, None))
            axis.set_xticks(shares, [f"{100 * share:g}" for share in shares])
            axis.minorticks_off()
        axes[1].set_title(literal(title), fontsize="small", loc="right")
        legend(figure, axes[0], columns=len(lengths))
        return finished(figure)
