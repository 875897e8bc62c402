"""The error of a forecast per wavelet scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pywt

from wavecore.config import FeatureSettings
from wavecore.errors import SettingsError

Array = np.ndarray[Any, np.dtype[Any]]

_MODE = "periodization"


def error_levels(horizon: int, settings: FeatureSettings) -> int:
    """Levels at which the error over `horizon` steps is decomposed.

    As many as the horizon allows, `settings.levels` at most. "Allows" is PyWavelets' rule, the same that bounds the
    features: at the deepest level at least one coefficient is free of border effects. With db4 that is 3 levels at
    H = 96 and 1 at H = 24. A horizon shorter than 2·(filter − 1) allows none: then one band, A0, holds everything.
    """
    try:
        length = pywt.Wavelet(settings.wavelet).dec_len
    except ValueError as error:
        raise SettingsError(
            f"features.wavelet: {settings.wavelet!r} is no discrete wavelet",
            "choose one of pywt.wavelist(kind='discrete')",
        ) from error
    return int(min(settings.levels, pywt.dwt_max_level(horizon, length)))


def error_bands(levels: int) -> tuple[str, ...]:
    """Band names, coarsest first: A_J, D_J … D_1; A0 alone when there are no levels."""
    return (f"A{levels}", *(f"D{j}" for j in range(levels, 0, -1)))


def band_energy(error: Array, wavelet: str, levels: int) -> Array:
    """Energy of error signals per wavelet band.

    Always in mode `periodization`, whatever the features use: with an orthonormal wavelet it is an orthonormal
    transform of any length that 2^levels divides, so the energies of the bands sum to that of the error (Parseval).
    Other lengths are extended with zero errors to the next such length, which keeps that sum and costs a little
    leakage into the fine bands at the horizon's end. With a biorthogonal wavelet the bands still compare stages, but
    need not sum to the MSE.

    Args:
        error: [B, H, N], zero where a point is not scored.

    Returns:
        [B, levels+1] summed over channels and coefficients, in the order of `error_bands`.
    """
    step = 2**levels
    short = -error.shape[1] % step
    padded = np.pad(error, ((0, 0), (0, short), (0, 0))) if short else error
    coefficients = pywt.wavedec(padded, wavelet, mode=_MODE, level=levels, axis=1) if levels else [padded]
    return np.stack([np.square(c).sum(axis=1).sum(axis=1) for c in coefficients], axis=1)
