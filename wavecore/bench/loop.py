"""The columns of `wavecore.series.features` as one would write them down first: one window of one channel at a time.

Plain numpy, scipy and pywt on arrays of one dimension, without a detour; each window is transformed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pywt
import scipy.fft

from wavecore.config import FeatureSettings
from wavecore.prompt.statistics import DECIMALS
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import EPS, Scaler
from wavecore.wavelet.statistics import (
    BURSTS,
    CONSTANT_RMS,
    MAD_TO_SIGMA,
    MERGE_STEPS,
    NOISE_FLOOR,
    PADDING,
)
from wavecore.wavelet.transform import bands, filters


def rows(
    arrays: SeriesArrays, scaler: Scaler, starts: np.ndarray, window: int, settings: FeatureSettings
) -> Iterator[dict[str, Any]]:
    """All columns of the window index, the wavelet statistics and the coefficients, a row at a time.

    Args:
        arrays, scaler: the series, and its scaler.
        starts: [W] first rows of the windows; of each all channels.
        window: T.
        settings: see FeatureSettings.
    """
    wavelet = filters(settings.wavelet)
    names = bands(settings.levels)
    for start in starts.tolist():
        part = slice(start, start + window)
        standardized = np.ascontiguousarray(scaler.transform(arrays.values[part]).T)
        for channel, x in enumerate(standardized):
            mean, std = x.mean(), x.std()
            if x.min() == x.max():
                mean, std = x[0], 0.0
            moving = (x - mean) / np.sqrt(std**2 + EPS)
            moving = moving - moving.mean()
            if np.square(moving).mean() <= CONSTANT_RMS**2:
                moving = np.zeros(window)
            parts = pywt.wavedec(moving, wavelet, mode=settings.mode, level=settings.levels)
            yield {
                "start": start,
                "channel": channel,
                "mean": mean,
                "std": std,
                "min": x.min(),
                "max": x.max(),
                "median": np.partition(x, (window - 1) // 2)[(window - 1) // 2],
                "trend": x[-1] - x[0],
                "lags": top_lags(x, settings.lags),
                "observed_share": arrays.observed[part, channel].mean(),
                **energies(moving, parts, settings),
                **bursts(moving, settings),
                **{name: part.astype(np.float32) for name, part in zip(names, parts, strict=True)},
            }


def top_lags(x: np.ndarray, lags: int) -> np.ndarray:
    """The highest peaks of the autocorrelation of x [T] by FFT: [lags], 0 where there are fewer."""
    found = np.zeros(lags, dtype=np.int32)
    if x.min() == x.max():
        return found
    kept = len(x) // 2 + 2
    padded = scipy.fft.next_fast_len(len(x) + kept, real=True)
    spectrum = scipy.fft.rfft(x - x.mean(), padded)
    raw = scipy.fft.irfft(np.square(spectrum.real) + np.square(spectrum.imag), padded)[:kept]
    r = np.round(raw / raw[0], DECIMALS)
    at = 1 + np.flatnonzero((r[1:-1] > r[:-2]) & (r[1:-1] >= r[2:]) & (r[1:-1] > 0))
    best = at[np.argsort(-r[at], kind="stable")[:lags]]
    found[: len(best)] = best
    return found


def energies(moving: np.ndarray, parts: list[np.ndarray], settings: FeatureSettings) -> dict[str, Any]:
    """What the bands of a window [T] without its mean say, and how well they give it back."""
    energy = np.array([np.dot(part, part) for part in parts])
    still = energy.sum() == 0
    share = np.eye(1, len(parts))[0] if still else energy / energy.sum()
    seen = share[share > 0]
    band = int(share.argmax())
    if still:
        period = 0.0
    elif band == 0:
        period = slow_period(moving, settings.levels)
    else:
        period = min(2 ** (settings.levels - band + 1.5), len(moving))
    back = pywt.waverec(parts, filters(settings.wavelet), mode=settings.mode)[: len(moving)]
    return {
        "energy_share": share,
        "entropy": -float((seen * np.log(seen)).sum()) / np.log(len(share)),
        "dominant_band": band,
        "dominant_period": period,
        "reconstruction_error": np.abs(back - moving).max(),
    }


def slow_period(moving: np.ndarray, levels: int) -> float:
    """The strongest period of x [T] from 2^(J+1) steps to T, in the periodogram of its means over blocks."""
    length, block = len(moving), 2 ** (levels - 1)
    means = moving[length % block :].reshape(-1, block).mean(axis=1)
    padded = PADDING * len(means)
    bins = np.arange(-(-padded * block // length), padded * block // (2 * 2**levels) + 1)
    if not len(bins):
        return float(length)
    spectrum = scipy.fft.rfft(means, padded)[bins]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return float(padded * block / bins[power.argmax()])


def bursts(moving: np.ndarray, settings: FeatureSettings) -> dict[str, Any]:
    """Where the finest details of x [T] stand out of their noise: how many bursts, and the strongest of them."""
    start, strength = np.full(BURSTS, -1, dtype=np.int32), np.zeros(BURSTS)
    high = np.asarray(filters(settings.wavelet).dec_hi)
    found: list[tuple[float, int]] = []
    if len(moving) >= len(high):
        detail = np.abs(np.convolve(moving, high, mode="valid"))
        detail /= max(float(np.median(detail)) * MAD_TO_SIGMA, NOISE_FLOOR)
        above = np.flatnonzero(detail > settings.burst_threshold)
        if len(above):
            shift = int(np.abs(high[::-1]).argmax())
            apart = 1 + np.flatnonzero(np.diff(above) > max(MERGE_STEPS, len(high)))
            for one in np.split(above, apart):
                peak = float(detail[one].max())
                found.append((-peak, int(one[detail[one] >= peak / 2][0]) + shift))
    for k, (peak, at) in enumerate(sorted(found)[:BURSTS]):
        start[k], strength[k] = at, -peak
    return {"burst_count": len(found), "burst_start": start, "burst_strength": strength}
