"""`features` and `wavelet`: the streamed, vectorized tables of windows against loops over single windows and series.

The loop would take hours over every window of a series, so it runs over a sample of them and its time is scaled by the
number of windows; the vectorized pass always covers them all.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pywt

from wavecore.bench import loop
from wavecore.bench.rows import Row, alternate, clocked
from wavecore.config import FeatureSettings
from wavecore.series import features as tables
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler
from wavecore.wavelet.transform import decompose, filters

if TYPE_CHECKING:
    from wavecore.prompt.tokens import Prompter

Columns = dict[str, np.ndarray]

TABLES = (tables.window_statistics, tables.wavelet_features, tables.wavelet_coefficients)
SIZES = ((28, 512), (112, 512), (112, 2048))
# Rounding itself: no two ways of computing agree on it, so it is held against the window's deviation, which is 1.
ROUNDING = ("reconstruction_error",)
SAME = 1e-12  # a column that varies less than this share of its largest value is one value, but for rounding


def features(
    arrays: SeriesArrays,
    scaler: Scaler,
    prompter: Prompter | None = None,
    window: int = 512,
    settings: FeatureSettings | None = None,
    sample: int = 200,
    repeats: int = 3,
    seed: int = 0,
) -> Iterator[Row]:
    """One row for the tables of all windows at stride 1, one for prompts where there is a prompter.

    Args:
        arrays, scaler: the series, and its scaler.
        prompter: for windows of this length; None: no row of prompts.
        window: T.
        settings: see FeatureSettings; its `memory_mb` bounds the vectorized pass.
        sample: windows that the loop and the prompter go through, each with all channels.
        repeats: pairs that are timed.
        seed: of the sample.

    Raises:
        DataError: fewer rows than one window.
        SettingsError: a wavelet that does not fit the window.
    """
    settings = settings or FeatureSettings()
    chosen = sampled(arrays, window, sample, seed)
    channels = len(arrays.channels)
    every = arrays.rows - window + 1
    error = difference(
        vectorized(arrays, scaler, window, settings, chosen), looped(arrays, scaler, window, settings, chosen)
    )
    times = alternate(
        lambda: passed(arrays, scaler, window, settings),
        lambda: exhaust(loop.rows(arrays, scaler, chosen, window, settings)),
        repeats,
    )
    shape = {"window": window, "channels": channels}
    yield Row(
        "features", "vectorized", "pywt_loop", "", 0, "float64", "float64",
        **scaled(times, every / len(chosen)), error=error,
        more={
            **shape, "windows": every * channels, "other_windows": len(chosen) * channels,
            "other_is": "timed on a seeded sample of windows, scaled to all", "memory_mb": settings.memory_mb,
            "threads": min(tables.MOST_WORKERS, tables.processors()), "other_threads": 1,
        },
    )  # fmt: skip
    if prompter is not None:
        told = [len(p.ids) for p in prompts(arrays, scaler, window, settings, prompter, chosen)]
        taken = statistics.median(
            clocked(lambda: exhaust(prompts(arrays, scaler, window, settings, prompter, chosen)))
            for _ in range(repeats)
        )
        yield Row(
            "features", "prompts", seconds=taken,
            more={**shape, "windows": len(told), "per_second": len(told) / taken, "tokens": statistics.mean(told)},
        )  # fmt: skip


def wavelet(
    sizes: Sequence[tuple[int, int]] = SIZES,
    settings: FeatureSettings | None = None,
    repeats: int = 20,
    calls: int = 20,
    seed: int = 0,
) -> Iterator[Row]:
    """The batched transform against one call of pywt per series, a row per size.

    Args:
        sizes: series and steps, (M, T).
        settings: wavelet, mode and levels.
        repeats: pairs that are timed.
        calls: of each side in one timing, so that it is long enough for the clock; seconds are of one.
        seed: of the series.
    """
    settings = settings or FeatureSettings()
    filter_bank = filters(settings.wavelet)
    for series, steps in sizes:
        x = np.random.default_rng(seed).standard_normal((series, steps)).cumsum(axis=-1)

        def batched(x: np.ndarray = x) -> Columns:
            return decompose(x, settings)

        def single(x: np.ndarray = x) -> list[list[np.ndarray]]:
            return [pywt.wavedec(row, filter_bank, mode=settings.mode, level=settings.levels) for row in x]

        theirs = [np.stack(parts) for parts in zip(*single(), strict=True)]
        error = difference(batched(), dict(zip(batched(), theirs, strict=True)))
        times = alternate(
            lambda f=batched: [f() for _ in range(calls)],  # type: ignore[misc]
            lambda f=single: [f() for _ in range(calls)],  # type: ignore[misc]
            repeats,
        )
        times |= {key: times[key] / calls for key in ("seconds", "other_seconds")}
        yield Row(
            "wavelet", "batched", "pywt_loop", "", series, "float64", "float64", **times, error=error,
            more={
                "window": steps, "wavelet": settings.wavelet, "levels": settings.levels, "threads": 1,
                "other_threads": 1,
            },
        )  # fmt: skip


def scaled(times: dict[str, float], factor: float) -> dict[str, float]:
    """Where the other side did only a part of the work: as if it had done `factor` times as much."""
    return {key: value if key == "seconds" else value * factor for key, value in times.items()}


def sampled(arrays: SeriesArrays, window: int, count: int, seed: int) -> np.ndarray:
    """Starts of `count` windows of the series, or of all where there are fewer: [W] int64, rising."""
    every = max(0, arrays.rows - window + 1)
    return np.sort(np.random.default_rng(seed).choice(every, size=min(count, every), replace=False)).astype(np.int64)


def passed(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray | None = None
) -> int:
    """Compute all tables, chunk by chunk, and keep nothing; returns how many rows each has."""
    count = 0
    for table in TABLES:
        count = sum(len(chunk["start"]) for chunk in table(arrays, scaler, window, settings, starts))
    return count


def vectorized(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray
) -> Columns:
    """All columns of the windows `starts`, as the project computes them."""
    found: Columns = {}
    for table in TABLES:
        chunks = list(table(arrays, scaler, window, settings, starts))
        found |= {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return found


def looped(arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray) -> Columns:
    """The same columns of the same windows by the loop."""
    found = list(loop.rows(arrays, scaler, starts, window, settings))
    return {name: np.stack([np.asarray(row[name]) for row in found]) for name in found[0]}


def prompts(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, prompter: Prompter, starts: np.ndarray
) -> Iterator[Any]:
    """Text and token ids of the prompts of the windows `starts`, all channels."""
    for chunk in tables.window_rows(arrays, scaler, window, settings, starts):
        yield from prompter.prompts(chunk.normalized)


def difference(mine: Columns, theirs: Columns) -> float:
    """Largest difference over all columns, each relative to the standard deviation of the other side's column.

    Where a column has none, and in those of ROUNDING, the difference itself counts.

    Raises:
        ValueError: the two do not have the same columns, or not of the same shapes.
    """
    if set(mine) != set(theirs):
        raise ValueError(f"only one side has the columns {sorted(set(mine) ^ set(theirs))}")
    largest = 0.0
    for name, other in theirs.items():
        if mine[name].shape != other.shape:
            raise ValueError(f"{name}: {mine[name].shape} and {other.shape}")
        theirs_here = other.astype(np.float64)
        spread = float(theirs_here.std())
        varies = name not in ROUNDING and spread > SAME * float(np.abs(theirs_here).max())
        apart = float(np.abs(mine[name] - theirs_here).max())
        largest = max(largest, apart / spread if varies else apart)
    return largest


def exhaust(found: Iterator[Any]) -> None:
    """Compute all and keep nothing."""
    for _ in found:
        pass
