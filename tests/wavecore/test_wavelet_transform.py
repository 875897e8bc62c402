"""The transform against PyWavelets, row by row in float64, and its errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pywt

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError
from wavecore.wavelet.transform import (
    band_lengths,
    band_period,
    bands,
    check,
    decompose,
    max_levels,
    reconstruct,
)

MODES = ("periodization", "symmetric", "zero")


def grid():
    for wavelet in ("haar", "db2", "db4", "sym4"):
        for length in (64, 96, 101, 127):
            for levels in range(1, max_levels(wavelet, length) + 1):
                yield wavelet, levels, length


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("wavelet", "levels", "length"), list(grid()))
def test_bands_are_those_of_pywavelets_and_come_back(wavelet, levels, length, mode, dtype):
    settings = FeatureSettings(wavelet=wavelet, mode=mode, levels=levels)
    x = np.random.default_rng(length + levels).normal(size=(2, 3, length)).astype(dtype)
    parts = decompose(x, settings)
    assert tuple(parts) == bands(levels)
    assert {band: part.shape[-1] for band, part in parts.items()} == band_lengths(length, settings)
    near = {"atol": 1e-12} if dtype is np.float64 else {"atol": 1e-5}
    for i in range(2):
        for j in range(3):
            # One level at a time, one window at a time, always in float64.
            rest = x[i, j].astype(np.float64)
            for level in range(1, levels + 1):
                rest, detail = pywt.dwt(rest, wavelet, mode=mode)
                np.testing.assert_allclose(parts[f"D{level}"][i, j], detail, **near)
            np.testing.assert_allclose(parts[f"A{levels}"][i, j], rest, **near)
    back = reconstruct(parts, length, settings)
    assert back.shape == x.shape
    assert back.dtype == dtype
    np.testing.assert_allclose(back, x, **near)


def test_haar_by_hand():
    parts = decompose(np.array([4.0, 2.0, 5.0, 5.0]), FeatureSettings(wavelet="haar", levels=2))
    np.testing.assert_allclose(parts["D1"], [math.sqrt(2), 0], atol=1e-12)
    np.testing.assert_allclose(parts["D2"], [-2.0], atol=1e-12)
    np.testing.assert_allclose(parts["A2"], [8.0], atol=1e-12)


def test_periodization_keeps_energy():
    x = np.random.default_rng(0).normal(size=(5, 128))
    parts = decompose(x, FeatureSettings())
    np.testing.assert_allclose(sum((p**2).sum(-1) for p in parts.values()), (x**2).sum(-1))


def test_band_periods_tile_the_periods_from_two_steps_on():
    assert bands(3) == ("A3", "D3", "D2", "D1")
    edges = [band_period(band, 3)[:2] for band in reversed(bands(3))]
    assert edges == [(2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, math.inf)]
    low, high, centre = band_period("D2", 3)
    assert centre == pytest.approx(math.sqrt(low * high))
    assert math.isnan(band_period("A3", 3)[2])


@pytest.mark.parametrize("band", ["D4", "A2", "X1", "D0"])
def test_unknown_band(band):
    with pytest.raises(SettingsError, match="no band"):
        band_period(band, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("db44", "periodization", 2, 512), "features.wavelet: unknown wavelet 'db44'"),
        (("morl", "periodization", 2, 512), "unknown wavelet 'morl'"),  # continuous only
        (("db4", "periodisation", 2, 512), r"unknown border mode 'periodisation'\n.*did you mean 'periodization'"),
        (("db4", "periodization", 7, 512), r"7 levels of db4.*\n.*set levels to 6 or less"),
        (("db4", "periodization", 1, 12), r"1 levels of db4.*\n.*shorter wavelet"),
        (("db4", "periodization", 0, 512), "features.levels: 0"),
    ],
)
def test_settings_that_cannot_work(arguments, message):
    with pytest.raises(SettingsError, match=message):
        check(*arguments)


def test_the_deepest_level_named_is_one_that_works():
    for wavelet in ("haar", "db4", "sym8"):
        deepest = max_levels(wavelet, 100)
        check(wavelet, "symmetric", deepest, 100)
        with pytest.raises(SettingsError):
            check(wavelet, "symmetric", deepest + 1, 100)


def test_too_short_a_window_is_refused_by_the_transform_itself():
    with pytest.raises(SettingsError, match="set levels to 3"):
        decompose(np.zeros((2, 96)), FeatureSettings(levels=4))


def test_coefficients_of_another_window():
    settings = FeatureSettings()
    parts = decompose(np.zeros(256), settings)
    with pytest.raises(DataError, match="do not belong to a window of 512"):
        reconstruct(parts, 512, settings)
    del parts["D2"]
    with pytest.raises(DataError) as caught:
        reconstruct(parts, 256, settings)
    assert caught.value.columns == ("D2",)
