"""Tables about every window of a series, streamed: no table, no set of windows and no second series is ever in memory.

A window is named by its start row s in 0 … n - T, all of them: the last one's target lies in the future. Rows of each
table go by window, then by channel. Chunks are as large as `memory_mb` allows, the same for every table, and never
change a value. Columns are [rows] or, for fixed-size lists, [rows, k].
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
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

    @functools.cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased standard deviation, [m] each; exact in a constant window."""
        mean, std = instance_statistics(self.x)
        constant = self.x.min(axis=-1) == self.x.max(axis=-1)
        return np.where(constant, self.x[:, 0], mean), np.where(constant, 0.0, std)

    @functools.cached_property
    def normalized(self) -> np.ndarray:
        """[m, T] instance-normalized window (R1); 0 throughout where it is constant."""
        return instance_normalize(self.x, *self.moments)

    @functools.cached_property
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
        settings: `memory_mb` sets the size of a chunk, `lags` the number of lags.
        starts: only these windows, in this order; by default 0 … n - T.

    Raises:
        DataError: fewer rows than one window, or a start outside the data.
    """
    last = _last_start(arrays, window)
    chosen = np.arange(last + 1, dtype=np.int64) if starts is None else np.asarray(starts, dtype=np.int64)
    if chosen.size and (chosen.min() < 0 or chosen.max() > last):
        raise DataError(
            f"window starts must lie in 0 to {last}, found {chosen.min()} to {chosen.max()}",
            "choose windows that the series holds",
        )
    # Checked above, at the call; what follows runs as the chunks are asked for.
    return _chunks(arrays, scaler, window, settings, chosen)


def _chunks(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray
) -> Iterator[WindowChunk]:
    channels = len(arrays.channels)
    # Of the series nothing is copied but the windows of one chunk, which are scaled there: overlapping ones several
    # times, which is little beside what is computed of them.
    values, observed = (
        np.lib.stride_tricks.sliding_window_view(table, window, axis=0) for table in (arrays.values, arrays.observed)
    )
    rows = max(1, int(settings.memory_mb * 2**20) // (ARRAYS_PER_ROW * 8 * window))
    if rows > channels:
        rows -= rows % channels
    for begin in range(0, starts.size * channels, rows):
        pair = np.arange(begin, min(begin + rows, starts.size * channels))
        start, channel = starts[pair // channels], pair % channels
        own = Scaler(scaler.center[channel, None], scaler.scale[channel, None])
        share = np.count_nonzero(observed[start, channel], axis=-1) / window
        yield WindowChunk(start, channel.astype(np.int32), own.transform(values[start, channel]), share, settings.lags)


def window_statistics(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray | None = None
) -> Iterator[Columns]:
    """Chunks of the window index: start, channel, mean, std, min, max, median, trend, lags, observed_share.

    In train-standardized units; trend is last less first; lags [rows, lags] in steps, 0-padded.
    """
    for chunk in window_rows(arrays, scaler, window, settings, starts):
        yield {**_keys(chunk), **chunk.statistics, "observed_share": chunk.observed_share}


def wavelet_features(
    arrays: SeriesArrays, scaler: Scaler, window: int, settings: FeatureSettings, starts: np.ndarray | None = None
) -> Iterator[Columns]:
    """Chunks of start, channel and the wavelet statistics of the instance-normalized window.

    Columns as `wavecore.wavelet.statistics.statistics` returns them.

    Raises:
        SettingsError: unknown wavelet or mode, or more levels than the window allows.
    """
    check(settings.wavelet, settings.mode, settings.levels, window)
    for chunk in window_rows(arrays, scaler, window, settings, starts):
        yield {**_keys(chunk), **wavelet.statistics(chunk.normalized, settings)}


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
    for chunk in window_rows(arrays, scaler, window, settings, starts):
        parts = decompose(chunk.normalized, settings)
        yield {**_keys(chunk), **{band: part.astype(np.float32) for band, part in parts.items()}}


def stored_mb(arrays: SeriesArrays, window: int, settings: FeatureSettings) -> float:
    """Size of all coefficients of all windows as float32, in MiB, to hold against `coefficient_budget_mb`.

    Raises:
        DataError: fewer rows than one window.
        SettingsError: as `wavelet_features`.
    """
    check(settings.wavelet, settings.mode, settings.levels, window)
    rows = (_last_start(arrays, window) + 1) * len(arrays.channels)
    return rows * sum(band_lengths(window, settings).values()) * 4 / 2**20


def _keys(chunk: WindowChunk) -> Columns:
    return {"start": chunk.start, "channel": chunk.channel}


def _last_start(arrays: SeriesArrays, window: int) -> int:
    if window < 2:
        raise DataError(f"a window of {window} steps has no movement", "choose a window of 2 steps or more")
    if arrays.rows < window:
        raise DataError(
            f"the series has {arrays.rows} rows, fewer than one window of {window}",
            "give a longer series, or shorten the window",
        )
    return arrays.rows - window
