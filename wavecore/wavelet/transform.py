"""The discrete wavelet transform of windows, batched over all leading axes.

A decomposition of depth J splits a window into the bands A_J, D_J, …, D_1, from slow to fast (Mallat, "A Theory for
Multiresolution Signal Decomposition", IEEE PAMI 11(7), 1989). D_j holds periods of about 2^j to 2^(j+1) steps, A_J
everything slower.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping

import numpy as np
import pywt

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError


@functools.cache
def filters(wavelet: str) -> pywt.Wavelet:
    """The filters of a discrete wavelet of PyWavelets.

    Raises:
        SettingsError: there is none of that name; the message names the nearest.
    """
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known:
        near = difflib.get_close_matches(str(wavelet), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose a discrete wavelet of PyWavelets, such as db4 or haar"
        raise SettingsError(f"features.wavelet: unknown wavelet {wavelet!r}", hint)
    return pywt.Wavelet(wavelet)


def max_levels(wavelet: str, window: int) -> int:
    """The deepest useful decomposition of `window` steps: beyond it every coefficient would mix in the border."""
    return int(pywt.dwt_max_level(window, filters(wavelet).dec_len))


def check(wavelet: str, mode: str, levels: int, window: int) -> None:
    """Make sure that a window of `window` steps can be decomposed like this.

    Raises:
        SettingsError: unknown wavelet or mode, or more levels than the window allows (the message names the largest).
    """
    filters(wavelet)
    if mode not in pywt.Modes.modes:
        near = difflib.get_close_matches(str(mode), pywt.Modes.modes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(pywt.Modes.modes)}"
        raise SettingsError(f"features.mode: unknown border mode {mode!r}", hint)
    if levels < 1:
        raise SettingsError(f"features.levels: {levels}", "give at least one level")
    deepest = max_levels(wavelet, window)
    if levels > deepest:
        problem = f"features.levels: {levels} levels of {wavelet} need a longer window than {window} steps"
        if deepest < 1:
            raise SettingsError(problem, "lengthen the window, or choose a shorter wavelet such as haar")
        raise SettingsError(problem, f"set levels to {deepest} or less, or lengthen the window")


def bands(levels: int) -> tuple[str, ...]:
    """Names of the bands from slow to fast: 2 → ("A2", "D2", "D1")."""
    return (f"A{levels}", *(f"D{j}" for j in range(levels, 0, -1)))


def band_period(band: str, levels: int) -> tuple[float, float, float]:
    """Which periods a band holds, in steps: (shortest, longest, centre).

    D_j spans one octave, 2^j to 2^(j+1), with the geometric mean 2^(j+1/2) as its centre. A_J has no longest period
    (inf) and so no centre (NaN); `wavecore.wavelet.statistics` narrows it down per window.

    Raises:
        SettingsError: no band of that name at this depth.
    """
    if band not in bands(levels):
        raise SettingsError(f"there is no band {band!r} at {levels} levels", f"bands: {', '.join(bands(levels))}")
    j = int(band[1:])
    if band[0] == "A":
        return float(2 ** (j + 1)), math.inf, math.nan
    return float(2**j), float(2 ** (j + 1)), 2 ** (j + 0.5)


def decompose(x: np.ndarray, settings: FeatureSettings) -> dict[str, np.ndarray]:
    """Coefficients of each band, slow to fast: x [..., T] → {band: [..., n_band]}; float32 stays float32.

    Raises:
        SettingsError: see `check`.
    """
    check(settings.wavelet, settings.mode, settings.levels, x.shape[-1])
    parts = pywt.wavedec(x, filters(settings.wavelet), mode=settings.mode, level=settings.levels, axis=-1)
    return dict(zip(bands(settings.levels), parts, strict=True))


def reconstruct(coefficients: Mapping[str, np.ndarray], length: int, settings: FeatureSettings) -> np.ndarray:
    """The inverse of `decompose`: {band: [..., n_band]} → [..., length].

    Args:
        length: T of the window that was decomposed; the inverse of an odd length has one sample too many.

    Raises:
        DataError: bands are missing, or do not belong to a window of this length.
    """
    check(settings.wavelet, settings.mode, settings.levels, length)
    expected = band_lengths(length, settings)
    found = {band: part.shape[-1] for band, part in coefficients.items()}
    if found != expected:
        raise DataError(
            f"coefficients {found} do not belong to a window of {length} steps, which has {expected}",
            "use the settings and the window length of the decomposition",
            columns=[band for band in expected if found.get(band) != expected[band]],
        )
    parts = [coefficients[band] for band in expected]
    whole = pywt.waverec(parts, filters(settings.wavelet), mode=settings.mode, axis=-1)
    return np.asarray(whole[..., :length])


def band_lengths(length: int, settings: FeatureSettings) -> dict[str, int]:
    """How many coefficients each band of a window of `length` steps has, slow to fast."""
    lengths: dict[str, int] = {}
    rest = length
    for j in range(1, settings.levels + 1):
        rest = pywt.dwt_coeff_len(rest, filters(settings.wavelet).dec_len, settings.mode)
        lengths[f"D{j}"] = rest
    lengths[f"A{settings.levels}"] = rest
    return {band: lengths[band] for band in bands(settings.levels)}
