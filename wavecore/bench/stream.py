"""`features`, streamed: a series of a gigabyte through a bounded memory, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from wavecore.bench.child import ask, forget_peak, peak_mb
from wavecore.bench.features import passed
from wavecore.bench.rows import Row
from wavecore.config import FeatureSettings
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler

TRAIN = 0.6  # share of a generated series that its scaler is fitted on
BLOCK = 2**16  # rows of a generated series that are drawn at once


def streamed(
    gigabytes: float = 1.0,
    window: int = 512,
    channels: int = 7,
    settings: FeatureSettings | None = None,
    stride: int | None = None,
    seed: int = 0,
) -> Iterator[Row]:
    """One row: statistics and coefficients of a generated series, streamed in a process of its own.

    Args:
        gigabytes: size of the series in 10⁹ bytes.
        window: T.
        channels: N.
        settings: see FeatureSettings; `memory_mb` is the bound on what streaming adds to the series.
        stride: between windows; T/2 where it is None.
        seed: of the series.
    """
    settings = settings or FeatureSettings()
    found = ask(
        "features", gigabytes=gigabytes, window=window, channels=channels, settings=asdict(settings),
        stride=stride or max(1, window // 2), seed=seed,
    )  # fmt: skip
    seconds = found.pop("seconds", None)
    more = {"window": window, "channels": channels, "memory_mb": settings.memory_mb, **found}
    yield Row("features", "streamed", dtype="float64", seconds=seconds, more=more)


def generated(gigabytes: float, channels: int = 7, seed: int = 0) -> SeriesArrays:
    """A series of so many 10⁹ bytes as float64 [n, N]: daily and weekly cycles, each channel its own, and noise.

    Hourly and without gaps. It is drawn block by block, so that making it takes no more memory than it does.
    """
    rows = int(gigabytes * 1e9) // (8 * channels)
    draw = np.random.default_rng(seed)
    phase, level, size = draw.uniform(0, 168, channels), draw.normal(0, 10, channels), draw.uniform(1, 5, channels)
    values = np.empty((rows, channels))
    for begin in range(0, rows, BLOCK):
        t = np.arange(begin, min(begin + BLOCK, rows))[:, None] + phase
        x = np.sin(2 * np.pi * t / 24) + 0.5 * np.sin(2 * np.pi * t / 168) + 0.3 * draw.standard_normal(t.shape)
        values[begin : begin + BLOCK] = level + size * x
    times = np.datetime64("2000-01-01", "us") + np.arange(rows) * np.timedelta64(1, "h")
    names = tuple(f"channel {i}" for i in range(channels))
    return SeriesArrays(times, names, values, np.ones(values.shape, dtype=bool))


def stream(
    gigabytes: float, window: int, channels: int, settings: dict[str, Any], stride: int, seed: int
) -> dict[str, Any]:
    """What `streamed` asks a child process for: seconds, rows, the peak before streaming began, and whether the child's
    own peak is that of streaming alone.

    Nothing here may import torch, whose own memory would count.
    """
    arrays = generated(gigabytes, channels, seed)
    scaler = Scaler.fit(arrays, (0, max(1, int(TRAIN * arrays.rows))))
    before = peak_mb()
    # Drawing the series and fitting its scaler took more than streaming does, and would hide it.
    apart = forget_peak()
    start = time.perf_counter()
    rows = passed(arrays, scaler, window, FeatureSettings(**settings), np.arange(0, arrays.rows - window + 1, stride))
    return {
        "seconds": time.perf_counter() - start,
        "windows": rows,
        "stride": stride,
        "series_mb": arrays.values.nbytes / 2**20,
        "loaded_mb": before,
        "apart": apart,
    }
