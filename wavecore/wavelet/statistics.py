"""What the bands of a window say: where its energy lies, how spread it is, its dominant period, its bursts.

Design choices:

- The window's mean is removed first, so that the energy of A_J is slow movement, not level.
- A constant window has no movement at all. Its result is defined: all energy in A_J, entropy 0, period 0, no bursts.
- The dominant period is the centre of the dominant band's octave. A_J spans several octaves, so there the highest point
  of the periodogram at its periods is named instead.
- Bursts are found in the finest details at every step (no decimation) and only where the filter lies wholly inside the
  window: a border rule would turn the jump between a window's ends into an event.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from wavecore.config import FeatureSettings
from wavecore.wavelet.transform import band_period, bands, decompose, filters, reconstruct

BURSTS = 3  # time marks kept per window, strongest first
# x is instance-normalized, so these are shares of the window's own standard deviation.
CONSTANT_RMS = 1e-9
# The noise level of the finest details counts as at least this: in a very smooth or flat window anything else exceeds
# any multiple of the noise.
NOISE_FLOOR = 0.02
MERGE_STEPS = 8  # exceedances this near, or one filter length apart if that is longer, are one burst
PADDING = 4  # zeros interpolate the periodogram: one and a half swings per window fall between its own bins
MAD_TO_SIGMA = 1.4826022185056018  # 1 / Φ⁻¹(3/4): median |d| of Gaussian noise → its standard deviation


def statistics(x: np.ndarray, settings: FeatureSettings, bursts: int = BURSTS) -> dict[str, np.ndarray]:
    """Wavelet statistics of instance-normalized windows.

    Args:
        x: [M, T], each row one window of one channel, of standard deviation about 1.
        settings: wavelet, mode, levels, burst_threshold.
        bursts: k, how many time marks are kept.

    Returns:
        energy_share: [M, J+1], share of A_J, D_J, …, D_1; sums to 1.
        entropy: [M], Shannon entropy of these shares over log(J+1): 0 for one band, 1 for equal shares (Rosso et al.,
            J. Neurosci. Methods 105, 2001, total wavelet entropy, normalized).
        dominant_band: [M] int16, index into `bands(levels)` of the largest share.
        dominant_period: [M] in steps: the centre of that band, or within A_J the strongest period from 2^(J+1) to T; at
            most T; 0 for a constant window.
        burst_count, burst_start, burst_strength: see `find_bursts`.
        reconstruction_error: [M], largest deviation of the inverse transform from the window.

    Raises:
        SettingsError: see `wavecore.wavelet.transform.check`.
    """
    moving = np.asarray(x, dtype=np.float64)
    moving = moving - moving.mean(axis=-1, keepdims=True)
    constant = np.square(moving).mean(axis=-1) <= CONSTANT_RMS**2
    moving[constant] = 0.0
    parts = decompose(moving, settings)
    back = reconstruct(parts, moving.shape[-1], settings)
    share = energy_share(parts)
    band = share.argmax(axis=-1).astype(np.int16)
    count, start, strength = find_bursts(moving, settings, bursts)
    return {
        "energy_share": share,
        "entropy": entropy(share),
        "dominant_band": band,
        "dominant_period": _dominant_period(moving, band, constant, settings.levels),
        "burst_count": count,
        "burst_start": start,
        "burst_strength": strength,
        "reconstruction_error": np.abs(np.subtract(back, moving, out=back), out=back).max(axis=-1),
    }


def energy_share(parts: dict[str, np.ndarray]) -> np.ndarray:
    """Share of each band in the sum of squared coefficients: {band: [M, n_band]} → [M, J+1]; without energy, A_J has 1.

    With an orthogonal wavelet in mode `periodization` these are shares of the window's variance; otherwise the bands
    overlap at the borders a little and the shares are relative to their sum.
    """
    energy = np.stack([np.square(part).sum(axis=-1) for part in parts.values()], axis=-1)
    total = energy.sum(axis=-1, keepdims=True)
    still = np.zeros_like(energy)
    still[..., 0] = 1.0
    return np.divide(energy, total, out=still, where=total > 0)


def entropy(share: np.ndarray) -> np.ndarray:
    """Normalized Shannon entropy of shares: [M, K] → [M], between 0 and 1."""
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    # 0 + … turns the -0.0 of a single band into 0.0.
    return 0.0 + np.clip(-(share * logs).sum(axis=-1) / np.log(share.shape[-1]), 0.0, 1.0)


def find_bursts(
    x: np.ndarray, settings: FeatureSettings, bursts: int = BURSTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the finest details stand far out of their own noise.

    The finest detail at each step is the wavelet's high-pass filter applied without decimation. Its noise level is the
    median of its absolute values, scaled to a standard deviation (Donoho and Johnstone, Biometrika 81, 1994). Steps
    above `burst_threshold` noise levels and at most `MERGE_STEPS` or one filter length apart are one burst. It starts
    where it first reaches half of its peak; the shift by the filter's own main tap is taken out.

    Args:
        x: [M, T], mean removed.

    Returns:
        count: [M] int32, all bursts of the window.
        start: [M, k] int32, steps from the window's start, strongest burst first, -1 where there is none.
        strength: [M, k], peak in noise levels, 0 where there is none.
    """
    high = np.asarray(filters(settings.wavelet).dec_hi)
    windows, length = x.shape
    start = np.full((windows, bursts), -1, dtype=np.int32)
    strength = np.zeros((windows, bursts))
    if not windows or length < high.size:
        return np.zeros(windows, dtype=np.int32), start, strength
    inside = length - high.size + 1
    # detail[:, s] covers x[:, s : s + L]; the convolution's tap i meets x[s + L - 1 - i].
    detail, term = np.zeros((windows, inside)), np.empty((windows, inside))
    for i, tap in enumerate(high[::-1]):
        detail += np.multiply(x[:, i : i + inside], tap, out=term)
    np.abs(detail, out=detail)
    noise = np.maximum(_median(detail) * MAD_TO_SIGMA, NOISE_FLOOR)
    detail /= noise[:, None]
    row, at = np.nonzero(detail > settings.burst_threshold)
    if not row.size:
        return np.zeros(windows, dtype=np.int32), start, strength
    apart = np.ones(row.size, dtype=bool)
    apart[1:] = (np.diff(row) != 0) | (np.diff(at) > max(MERGE_STEPS, high.size))
    first = np.flatnonzero(apart)
    excess = detail[row, at]
    peak = np.maximum.reduceat(excess, first)
    group = np.cumsum(apart) - 1
    mark = np.minimum.reduceat(np.where(excess >= peak[group] / 2, at, inside), first)
    mark = mark + int(np.abs(high[::-1]).argmax())
    owner = row[first]
    count = np.bincount(owner, minlength=windows).astype(np.int32)
    # By window, then strongest first, then earliest; the rank within the window is the column.
    order = np.lexsort((mark, -peak, owner))
    rank = np.arange(order.size) - np.repeat(np.cumsum(count) - count, count)
    kept = order[rank < bursts]
    column = rank[rank < bursts]
    start[owner[kept], column] = mark[kept]
    strength[owner[kept], column] = peak[kept]
    return count, start, strength


def _median(x: np.ndarray) -> np.ndarray:
    """As np.median of finite x [M, T] → [M], which also looks for NaN and takes several times as long."""
    middle = x.shape[-1] // 2
    if x.shape[-1] % 2:
        return np.partition(x, middle, axis=-1)[:, middle]
    two = np.partition(x, (middle - 1, middle), axis=-1)[:, middle - 1 : middle + 1]
    found: np.ndarray = two.mean(axis=-1)
    return found


def _dominant_period(x: np.ndarray, band: np.ndarray, constant: np.ndarray, levels: int) -> np.ndarray:
    """See `statistics`: x [M, T], band [M], constant [M] → [M]."""
    # The slot of A_J stays NaN only until `_slow_period` fills it.
    centre = np.array([band_period(name, levels)[2] for name in bands(levels)])
    # The deepest octave may reach beyond the window, which cannot show a period longer than itself.
    period = np.minimum(centre[band], float(x.shape[-1]))
    period[constant] = 0.0
    slow = np.flatnonzero((band == 0) & ~constant)
    if slow.size:
        period[slow] = _slow_period(x[slow], levels)
    return period


def _slow_period(x: np.ndarray, levels: int) -> np.ndarray:
    """Period of the highest point of the periodogram between 2^(J+1) steps and T: x [M, T] → [M].

    Averages over blocks of 2^(J-1) steps (four or more per period sought) stand for the window: what is fast does not
    matter here, and the transform becomes small. If even T is shorter than 2^(J+1), the answer is T.
    """
    length = x.shape[-1]
    block = 2 ** (levels - 1)
    whole = length // block * block
    slow = x[:, length - whole :].reshape(x.shape[0], -1, block).mean(axis=-1)
    padded = PADDING * slow.shape[-1]
    span = padded * block  # steps; bin k has the period span / k
    bins = np.arange(-(-span // length), span // (2 * 2**levels) + 1)
    if not bins.size:
        return np.full(x.shape[0], float(length))
    spectrum = scipy.fft.rfft(slow, padded, axis=-1)[:, bins]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    best: np.ndarray = span / bins[power.argmax(axis=-1)]
    return best
