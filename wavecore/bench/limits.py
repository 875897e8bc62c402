"""`memory`: the longest window and the most series that one forecast takes within a given memory.

A limit on a process's address space (RLIMIT_AS) would be another thing than memory, since libraries reserve far more
than they ever touch. So what fits is found by measuring: each candidate runs in a child process of its own, and its
peak resident memory decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wavecore.bench import SIZE
from wavecore.bench.child import ask
from wavecore.bench.memory import given, sides
from wavecore.bench.models import CHANNELS, Side, backbone_of
from wavecore.bench.rows import Row
from wavecore.model.settings import Size

STEP = 64  # windows are tried in multiples of so many steps


def limits(
    backbone: str = "minilm",
    gib: float = 4.0,
    series: int = 7,
    threads: int = 2,
    size: Size = SIZE,
    window: int = 512,
    most_window: int = 2**17,
    most_series: int = 7 * 2**12,
    within: float = 1 / 16,
    model: dict[str, Any] | None = None,
    measure: Callable[..., dict[str, Any]] = ask,
    also: Sequence[str] = (),
) -> Iterator[Row]:
    """The longest window and the most series that one inference of each path takes within `gib`.

    Args:
        backbone: minilm, gpt2 or qwen2.
        gib: GiB of peak resident memory.
        series: at once while the window grows.
        window: T while the number of series grows; also the shortest that is tried.
        most_window, most_series: where the search ends.
        within: the number found may be too small by this share.
        model: settings that all share.
        measure: as `ask`.
        threads, size: as in `memory`.
        also: stages of the Time-LLM family beside `exact` and `budget`.
    """
    with backbone_of(backbone) as name:
        for path, side in sides(size, model, also).items():
            if path == "reference":
                continue

            def longer(count: int, side: Side = side) -> dict[str, Any]:
                return measure("infer", **given(name, side, series, count, threads))

            def wider(count: int, side: Side = side) -> dict[str, Any]:
                return measure("infer", **given(name, side, count, window, threads))

            found, more = most_within(gib, longer, window, most_window, STEP, within)
            more = {"work": "longest window", "window": found, "threads": threads, **more}
            yield Row("memory", path, backbone=backbone, series=series, dtype=side.dtype, more=more)
            found, more = most_within(gib, wider, CHANNELS, most_series, CHANNELS, within)
            more = {"work": "most series", "window": window, "threads": threads, **more}
            yield Row("memory", path, backbone=backbone, series=found, dtype=side.dtype, more=more)


def most_within(
    gib: float, measure: Callable[[int], dict[str, Any]], least: int, most: int, step: int, within: float
) -> tuple[int, dict[str, Any]]:
    """See `largest`: the most whose measured `peak_mb` is at most `gib`, and what to tell about it: its peak, and why
    the next larger one that was tried is too much."""
    tried: dict[int, dict[str, Any]] = {}

    def fits(count: int) -> bool:
        tried[count] = measure(count)
        return float(tried[count].get("peak_mb", math.inf)) <= gib * 2**10

    found = largest(fits, least, most, step, within)
    more: dict[str, Any] = {"limit_gib": gib, "within": within}
    if found:
        more["peak_mb"] = tried[found]["peak_mb"]
    beyond = min((count for count in tried if count > found), default=None)
    if beyond is None:
        more["beyond"] = f"{most} is the most that was tried"
    else:
        said = tried[beyond]
        why = said["stopped"] if "stopped" in said else f"{said['peak_mb']:.0f} MiB"
        more["beyond"] = f"{beyond}: {why}"
    return found, more


def largest(fits: Callable[[int], bool], least: int, most: int, step: int = 1, within: float = 0.0) -> int:
    """The largest count that fits, taking for granted that every smaller one does: by doubling, then by bisection.

    Args:
        fits: whether a count does.
        least: tried first.
        most: never more than this.
        step: counts are `least` and multiples of `step` above it.
        within: stop where what is found can be too small by no more than this share.

    Returns:
        the count; 0 where not even `least` fits.
    """
    if least > most or not fits(least):
        return 0
    last = (most - least) // step
    low, high = 0, last + 1  # steps above `least`; `low` fits, `high` does not
    while low < last:
        tried = min(last, max(low + 1, 2 * low + least // step))
        if not fits(least + tried * step):
            high = tried
            break
        low = tried
    while high - low > 1 and (high - low) * step > within * (least + low * step):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(least + middle * step) else (low, middle)
    return least + low * step
