"""The numbers that a prompt tells about a window: extremes, median, trend, the lags at which it repeats itself (R6)."""

from __future__ import annotations

import numpy as np
import scipy.fft

# Lags are compared by correlations rounded to this many decimals, far below what a prompt could show and far above the
# rounding of an FFT: the order of nearly equal peaks then never depends on how many windows share a batch.
DECIMALS = 9


def statistics(x: np.ndarray, lags: int = 5) -> dict[str, np.ndarray]:
    """Statistics of windows x [M, T] in the units of x.

    Returns:
        min, max: [M].
        median: [M], the lower of the two middle values where T is even, as torch.median.
        trend: [M], last value less first; above 0 the window goes up.
        lags: [M, lags] int32, see `top_lags`.
    """
    x = np.asarray(x)
    middle = (x.shape[-1] - 1) // 2
    return {
        "min": x.min(axis=-1),
        "max": x.max(axis=-1),
        # A copy: the slice alone would keep the whole partitioned [M, T] alive.
        "median": np.partition(x, middle, axis=-1)[..., middle].copy(),
        "trend": x[..., -1] - x[..., 0],
        "lags": top_lags(x, lags),
    }


def top_lags(x: np.ndarray, lags: int = 5) -> np.ndarray:
    """The lags at which each window resembles itself most, strongest first: x [M, T] → [M, lags] int32.

    A lag is a local peak of the autocorrelation among 1 … T//2: higher than the lag before, not lower than the one
    after, and positive. Lag 0 says nothing and is left out; the autocorrelation is linear (zero-padded), so there are
    no mirrored lags either. Equal peaks: the shorter lag first. 0 stands where there are fewer peaks, as in a constant
    window.
    """
    correlation = np.round(autocorrelation(x), DECIMALS)
    here, before, after = correlation[:, 1:-1], correlation[:, :-2], correlation[:, 2:]
    peaks = np.where((here > before) & (here >= after) & (here > 0), here, 0.0)
    found = np.zeros((x.shape[0], lags), dtype=np.int32)
    every = np.arange(x.shape[0])
    for k in range(min(lags, peaks.shape[-1])):
        best = peaks.argmax(axis=-1)
        found[:, k] = np.where(peaks[every, best] > 0, best + 1, 0)
        peaks[every, best] = 0.0
    return found


def autocorrelation(x: np.ndarray) -> np.ndarray:
    """Linear autocorrelation of windows around their mean, by FFT: x [M, T] → [M, T//2 + 2] for lags 0 … T//2 + 1.

    r_τ = Σ_t (x_t - m)(x_{t+τ} - m) / Σ_t (x_t - m)²: 1 at lag 0; all 0 in a constant window. Zeros appended to the
    window keep its end from meeting its start (Wiener-Khinchin).
    """
    x = np.asarray(x, dtype=np.float64)
    length = x.shape[-1]
    kept = length // 2 + 2
    moving = x - x.mean(axis=-1, keepdims=True)
    # By comparison: the mean of equal numbers may be off by a rounding, which an FFT would turn into noise.
    moving[x.min(axis=-1) == x.max(axis=-1)] = 0.0
    padded = scipy.fft.next_fast_len(length + kept, real=True)
    spectrum = scipy.fft.rfft(moving, padded, axis=-1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    raw = scipy.fft.irfft(power, padded, axis=-1)[:, :kept]
    energy = raw[:, :1]
    return np.divide(raw, energy, out=np.zeros_like(raw), where=energy > 0)


def circular_lags(x: np.ndarray, lags: int = 5) -> np.ndarray:
    """The lags of the largest values of the circular autocorrelation, as the reference takes them: [M, T] → [M, lags].

    A window is taken for a ring and its mean stays in, so lag 0 always stands first and the others come in mirrored
    pairs (k, T-k) whose order is rounding. Kept to be equal to the reference; `top_lags` is what tells something.
    """
    correlation = circular_autocorrelation(x)
    return np.argsort(-correlation, axis=-1, kind="stable")[:, :lags].astype(np.int32)


def circular_autocorrelation(x: np.ndarray) -> np.ndarray:
    """Σ_t x_t x_{(t+τ) mod T} for τ = 0 … T-1, by FFT: [M, T] → [M, T] (Wiener-Khinchin)."""
    x = np.asarray(x, dtype=np.float64)
    spectrum = scipy.fft.rfft(x, axis=-1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.asarray(scipy.fft.irfft(power, x.shape[-1], axis=-1))
