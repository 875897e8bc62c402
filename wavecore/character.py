"""What a channel is like, so that a gain can be held against it: how volatile it is, and how many periods it has.

Both are measured on the train rows alone, like everything that says something about a benchmark before it is judged.

Letters: n rows, N channels, T window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import find_peaks, welch

from wavecore.series.arrays import SeriesArrays

Array = np.ndarray[Any, np.dtype[Any]]

# A period is a peak of the spectrum that stands this far out (dB), both between the valleys beside it and above the
# median of so many bins around it, with this share of all power in its three bins. Neither white noise nor a random
# walk then has one, and a peak that is sharp and holds nothing is none.
PROMINENCE = 6.0
AROUND = 17
SHARE = 0.01
# Below this share of the variance what remains of a channel without its trend is rounding.
ROUNDING = 1e-9


def volatility(arrays: SeriesArrays, train: tuple[int, int]) -> Array:
    """Standard deviation of the change from one step to the next, in standard deviations of the channel: [N].

    White noise has √2, a slow curve nearly 0. Changes count where both steps were observed; NaN where there are fewer
    than two, or where nothing moves.
    """
    values, observed = (part[slice(*train)] for part in (arrays.values, arrays.observed))
    pair = observed[1:] & observed[:-1]
    found = np.full(values.shape[1], np.nan)
    for channel in range(values.shape[1]):
        changes = np.diff(values[:, channel])[pair[:, channel]]
        level = values[observed[:, channel], channel]
        if len(changes) >= 2 and level.std() > 0:
            found[channel] = changes.std() / level.std()
    return found


def periods(arrays: SeriesArrays, train: tuple[int, int], window: int) -> Array:
    """How many periods a window can see, [N]: peaks of Welch's power spectrum with segments of T steps (Welch, IEEE
    Trans. Audio Electroacoust. 15(2), 1967) that stand out by PROMINENCE and hold SHARE of the power. Harmonics count,
    since a model must follow them too. Missing steps are interpolated; a channel without two observed values has 0.
    """
    found = np.zeros(arrays.values.shape[1], dtype=np.int64)
    rows = np.arange(train[0], train[1])
    for channel in range(len(found)):
        seen = arrays.observed[train[0] : train[1], channel]
        if seen.sum() < 2:
            continue
        series = np.interp(rows, rows[seen], arrays.values[rows[seen], channel])
        if np.ptp(series) == 0:
            continue
        _, power = welch((series - series.mean()) / series.std(), nperseg=min(window, len(series)), detrend="linear")
        # The slowest bin is what remains of a trend.
        power = power[1:]
        total = power.sum()
        if total < ROUNDING:
            continue
        level = 10 * np.log10(np.maximum(power, 1e-12 * total))
        # One bin of nothing on either side: a peak may lie at the end.
        places, _ = find_peaks(np.pad(level, 1, constant_values=level.min()), prominence=PROMINENCE)
        above = (level - median_filter(level, size=AROUND, mode="nearest"))[places - 1]
        near = np.convolve(power, np.ones(3), mode="same")[places - 1]
        found[channel] = int(((near >= SHARE * total) & (above >= PROMINENCE)).sum())
    return found
