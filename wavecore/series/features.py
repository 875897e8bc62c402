"""Tables about every window of a series, streamed: no table, no set of windows and no second series is ever in memory.

A window is named by its start row s in 0 … n - T, all of them: the last one's target lies in the future. Rows of each
table go by window, then by channel. Chunks are small enough for a processor's cache and for `memory_mb`, up to eight
are computed at once, and neither ever changes a value. Columns are [rows] or, for fixed-size lists, [rows, k].
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from wavecore.config import FeatureSettings
from wavecore.errors import DataError
from wavecore.prompt import statistics as prompt
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler, instance_normalize, instance_statistics
from wavecore.wavelet import statistics as wavelet
from wavecore.wavelet.transform import band_lengths, check, decompose

Columns = dict[str, np.ndarray]

# Working memory per row of a chunk, in float64 arrays of length T: the window, its normalized form, coefficients and
# inverse, or the padded transform of the autocorrelation (measured: up to 11).
ARRAYS_PER_ROW = 12
# Values of all windows of a chunk: 1 MiB of float64. Twice as many and the memory of each array is fetched from the
# system anew, which doubles the time; a quarter of them and Python's own share is seen.
CHUNK_VALUES = 2**17
# Chunks at once; numpy, scipy and pywt let other threads run while they compute.
MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class WindowChunk:
    """Some windows of some channels: m rows.

    Attributes:
        start: [m] int64, first row of the window in the series.
        channel: [m] int32, index into the series' channels.
        x: [m, T] train-standardized window.
        observed_share: [m], share of the steps that were not filled.
        lags: how many lags `statistics` finds.
    """

    start: np.ndarray
    channel: np.ndarray
    x: np.ndarray
    observed_share: np.ndarray
    lags: int

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased standard deviation, [m] each; exact in a constant window."""
        mean, std = instance_statistics(self.x)
        constant = self.x.min(axis=-1) == self.x.max(axis=-1)
        return np.where(constant, self.x[:, 0], mean), np.where(constant, 0.0, std)

    @property
    def normalized(self) -> np.ndarray:
        """[m, T] instance-normalized window (R1); 0 throughout where it is constant."""
        return instance_normalize(self.x, *self.moments)

    @property
    def statistics(self) -> Columns:
        """mean, std, min, max, median, trend [m] and lags [m, k] of the train-standardized window."""
        mean, std = self.moments
        return {"mean": mean, "std": std, **prompt.statistics(self.x, self.lags)}


def window_rows(
    arrays: SeriesArrays,
    scaler: Scaler,
    window: int,
    settings: FeatureSettings,
    starts: np.ndarray | None = None,
) -> Iterator[WindowChunk]:
    """All windows of all channels in chunks, window by window and within each channel by channel.

    Args:
        arrays: the series.
        scaler: fitted on its train rows.
        window: T.
        settings: `memory_mb` bounds the size of a chunk, `lags` the number of lags.
        starts: only these windows, in this order; by default 0 … n - T.

    Raises:
        DataError: fewer rows than one window, or a start outside the data.
    """
    chosen = _checked(starts, _last_start(arrays, window))
    # Checked above, at the call; what follows runs as the chunks are asked for.
    parts = _parts(chosen.size * len(arrays.channels), len(arrays.channels), window, settings.memory_mb)
    return (_chunk(arrays, scaler, window, settings, chosen, part) for part in parts)


def _parts(rows: int, channels: int, window: int, memory_mb: float) -> Iterator[range]:
    """The rows of all windows, 0 … rows - 1, chunk by chunk."""
    most = int(memory_mb * 2**20) // (ARRAYS_PER_ROW * 8 * window)
    size = max(1, min(most, CHUNK_VALUES // window))
    if size > channels:
        size -= size % channels
    return (range(begin, min(begin + size, rows)) for begin in range(0, rows, size))


def _chunk(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray, rows: range
) -> WindowChunk:
    """Rows of the windows `starts`. Of the series nothing is copied but what these windows cover."""
    channels = len(arrays.channels)
    start, channel = starts[np.asarray(rows) // channels], np.asarray(rows) % channels
    first, stop = int(start.min()), int(start.max()) + window
    if (stop - first) * channels <= len(rows) * window:
        # Windows that overlap: each step is scaled once.
        values = np.ascontiguousarray(scaler.transform(arrays.values[first:stop]).T)
        x = np.lib.stride_tricks.sliding_window_view(values, window, axis=1)[channel, start - first]
        count = np.zeros((stop - first + 1, channels), dtype=np.int64)
        np.cumsum(arrays.observed[first:stop], axis=0, out=count[1:])
        seen = count[start - first + window, channel] - count[start - first, channel]
    else:
        spans = (np.lib.stride_tricks.sliding_window_view(t, window, axis=0) for t in (arrays.values, arrays.observed))
        values, observed = (span[start, channel] for span in spans)
        x = Scaler(scaler.center[channel, None], scaler.scale[channel, None]).transform(values)
        seen = np.count_nonzero(observed, axis=-1)
    return WindowChunk(start, channel.astype(np.int32), x, seen / window, settings.lags)


def _table(
    arrays: SeriesArrays,
    scaler: Scaler,
    window: int,
    settings: FeatureSettings,
    starts: np.ndarray | None,
    columns: Callable[[WindowChunk], Columns],
) -> Iterator[Columns]:
    """Start, channel and `columns` of each chunk, in order; several at once where there are processors for them."""
    chosen = _checked(starts, _last_start(arrays, window))
    # Each works on a window of its own at least.
    fitting = int(settings.memory_mb * 2**20) // (ARRAYS_PER_ROW * 8 * window)
    workers = max(1, min(MOST_WORKERS, processors(), fitting))
    parts = _parts(chosen.size * len(arrays.channels), len(arrays.channels), window, settings.memory_mb / workers)

    def computed(part: range) -> Columns:
        chunk = _chunk(arrays, scaler, window, settings, chosen, part)
        return {"start": chunk.start, "channel": chunk.channel, **columns(chunk)}

    def streamed() -> Iterator[Columns]:
        pool = ThreadPoolExecutor(workers)
        waiting: deque[Future[Columns]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(computed, part))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    return streamed()


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checked(starts: np.ndarray | None, last: int) -> np.ndarray:
    chosen = np.arange(last + 1, dtype=np.int64) if starts is None else np.asarray(starts, dtype=np.int64)
    if chosen.size and (chosen.min() < 0 or chosen.max() > last):
        raise DataError(
            f"window starts must lie in 0 to {last}, found {chosen.min()} to {chosen.max()}",
            "choose windows that the series holds",
        )
    return chosen


def window_statistics(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray | None = None
) -> Iterator[Columns]:
    """Chunks of the window index: start, channel, mean, std, min, max, median, trend, lags, observed_share.

    In train-standardized units; trend is last less first; lags [rows, lags] in steps, 0-padded.
    """

    def columns(chunk: WindowChunk) -> Columns:
        return {**chunk.statistics, "observed_share": chunk.observed_share}

    return _table(arrays, scaler, window, settings, starts, columns)


def wavelet_features(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray | None = None
) -> Iterator[Columns]:
    """Chunks of start, channel and the wavelet statistics of the instance-normalized window.

    Columns as `wavecore.wavelet.statistics.statistics` returns them.

    Raises:
        SettingsError: unknown wavelet or mode, or more levels than the window allows.
    """
    check(settings.wavelet, settings.mode, settings.levels, window)

    def columns(chunk: WindowChunk) -> Columns:
        return wavelet.statistics(chunk.normalized, settings)

    return _table(arrays, scaler, window, settings, starts, columns)


def wavelet_coefficients(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray | None = None
) -> Iterator[Columns]:
    """Chunks of start, channel and one column [rows, n_band] float32 per band, of the instance-normalized window.

    The one source of coefficients: a table stores what it yields, and where the table would be too large (`stored_mb`)
    it is called with the `starts` that are needed.

    Raises:
        SettingsError: as `wavelet_features`.
    """
    check(settings.wavelet, settings.mode, settings.levels, window)

    def columns(chunk: WindowChunk) -> Columns:
        parts = decompose(chunk.normalized, settings)
        return {band: part.astype(np.float32) for band, part in parts.items()}

    return _table(arrays, scaler, window, settings, starts, columns)


def stored_mb(arrays: SeriesArrays, window: int, settings: FeatureSettings) -> float:
    """Size of all coefficients of all windows as float32, in MiB, to hold against `coefficient_budget_mb`.

    Raises:
        DataError: fewer rows than one window.
        SettingsError: as `wavelet_features`.
    """
    check(settings.wavelet, settings.mode, settings.levels, window)
    rows = (_last_start(arrays, window) + 1) * len(arrays.channels)
    return rows * sum(band_lengths(window, settings).values()) * 4 / 2**20


def _last_start(arrays: SeriesArrays, window: int) -> int:
    if window < 2:
        raise DataError(f"a window of {window} steps has no movement", "choose a window of 2 steps or more")
    if arrays.rows < window:
        raise DataError(
            f"the series has {arrays.rows} rows, fewer than one window of {window}",
            "give a longer series, or shorten the window",
        )
    return arrays.rows - window
