"""Wavelet statistics on signals whose answer is known: pure tones, bursts, noise, constants."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wavecore.config import FeatureSettings
from wavecore.wavelet.statistics import _median, find_bursts, statistics
from wavecore.wavelet.transform import band_lengths, band_period, bands, reconstruct

WAVELETS = ("haar", "db2", "db4", "sym4")
ROOT2 = math.sqrt(2)


def normal(x):
    x = np.atleast_2d(x)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def noise(windows, length, seed=0):
    return np.random.default_rng(seed).standard_normal((windows, length))


def tones(periods, length, seed=0):
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(periods))
    return np.sin(2 * np.pi * np.arange(length) / np.asarray(periods)[:, None] + phase[:, None])


# --- tones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [256, 512, 513])
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_the_period_of_a_tone_lies_in_the_dominant_band(wavelet, length):
    settings = FeatureSettings(wavelet=wavelet)
    periods = np.exp(np.random.default_rng(1).uniform(np.log(2.2), np.log(length), 400))
    # Neighbouring bands share what lies at their common edge: stay a fifth of an octave away from it.
    periods = periods[np.abs(np.log2(periods) - np.round(np.log2(periods))) > 0.2]
    found = statistics(normal(tones(periods, length)), settings)
    for period, band, named in zip(periods, found["dominant_band"], found["dominant_period"], strict=True):
        low, high, _ = band_period(bands(4)[band], 4)
        assert low <= period <= high
        assert period / ROOT2 <= named <= period * ROOT2


def test_the_day_of_an_hourly_series():
    found = statistics(normal(tones([24], 512)), FeatureSettings())
    assert bands(4)[found["dominant_band"][0]] == "D4"
    assert found["dominant_period"][0] == pytest.approx(16 * ROOT2)
    assert found["entropy"][0] < 0.35


def test_the_week_of_an_hourly_series_is_narrowed_down_inside_the_slowest_band():
    found = statistics(normal(tones([168], 512)), FeatureSettings())
    assert found["dominant_band"][0] == 0
    assert found["dominant_period"][0] == pytest.approx(168, rel=0.15)


def test_the_level_of_a_window_is_not_slow_energy():
    x = tones([3], 512)
    a, b = statistics(x, FeatureSettings()), statistics(x + 50, FeatureSettings())
    np.testing.assert_allclose(a["energy_share"], b["energy_share"], atol=1e-9)


def test_a_trend_is_slow():
    found = statistics(normal(np.arange(512.0)), FeatureSettings())
    assert found["dominant_band"][0] == 0
    assert 256 < found["dominant_period"][0] <= 512


@pytest.mark.parametrize(("wavelet", "levels", "length"), [("haar", 9, 512), ("haar", 6, 100), ("haar", 1, 2)])
def test_the_deepest_decomposition_still_names_a_period_inside_the_window(wavelet, levels, length):
    found = statistics(normal(np.arange(float(length))), FeatureSettings(wavelet=wavelet, levels=levels))
    assert 0 < found["dominant_period"][0] <= length


# --- noise and constants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_white_noise_fills_each_band_by_its_width(wavelet):
    found = statistics(normal(noise(1500, 512)), FeatureSettings(wavelet=wavelet))
    np.testing.assert_allclose(found["energy_share"].mean(0), [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2], atol=0.005)
    assert found["entropy"].mean() == pytest.approx(1.875 / np.log2(5), abs=0.02)
    assert found["entropy"].min() > 0.6


@pytest.mark.parametrize("mode", ["periodization", "symmetric"])
@pytest.mark.parametrize("length", [128, 131])
def test_shares_sum_to_one_and_the_transform_comes_back(mode, length):
    x = np.concatenate([noise(20, length), noise(20, length, 1).cumsum(-1), tones([2, 9, 30], length)])
    found = statistics(normal(x), FeatureSettings(mode=mode))
    np.testing.assert_allclose(found["energy_share"].sum(-1), 1.0, atol=1e-12)
    assert (found["energy_share"] >= 0).all()
    assert found["reconstruction_error"].max() < 1e-12


@pytest.mark.parametrize("level", [0.0, 0.1, -3e5])
def test_a_constant_window_has_a_defined_result(level):
    found = statistics(np.full((2, 128), level), FeatureSettings())
    np.testing.assert_array_equal(found["energy_share"], [[1, 0, 0, 0, 0]] * 2)
    assert not np.signbit(found["entropy"]).any()
    for name, value in {
        "entropy": 0,
        "dominant_band": 0,
        "dominant_period": 0,
        "burst_count": 0,
        "burst_start": -1,
        "burst_strength": 0,
        "reconstruction_error": 0,
    }.items():
        assert (found[name] == value).all(), name


@pytest.mark.parametrize(
    ("energies", "expected"),
    [
        ({"D1": 1}, 0.0),
        ({"D4": 1, "D1": 1}, np.log(2) / np.log(5)),
        ({"A4": 1, "D4": 1, "D3": 1, "D2": 1, "D1": 1}, 1.0),
        ({"D3": 3, "D2": 1}, -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(5)),
    ],
)
def test_entropy_and_shares_of_a_window_built_from_its_coefficients(energies, expected):
    settings = FeatureSettings()
    rng = np.random.default_rng(2)
    parts = {}
    for band, size in band_lengths(512, settings).items():
        part = rng.standard_normal((1, size))
        part -= part.mean()  # no level, which would be taken out
        parts[band] = part / np.sqrt((part**2).sum()) * np.sqrt(512 * energies.get(band, 0))
    found = statistics(reconstruct(parts, 512, settings), settings)
    shares = [energies.get(band, 0) / sum(energies.values()) for band in bands(4)]
    np.testing.assert_allclose(found["energy_share"][0], shares, atol=1e-9)
    assert found["entropy"][0] == pytest.approx(expected, abs=1e-7)
    assert shares[found["dominant_band"][0]] == max(shares)


# --- bursts --------------------------------------------------------------------------------------------------------


def with_burst(kind, length=512, windows=60, seed=3):
    rng = np.random.default_rng(seed)
    x = tones([24] * windows, length, seed) + 0.1 * rng.standard_normal((windows, length))
    at = rng.integers(20, length - 40, windows)
    for row, start in zip(x, at, strict=True):
        if kind == "spike":
            row[start] += 5
        else:
            row[start : start + 16] += 4 * np.sin(2 * np.pi * np.arange(1, 17) / 2.7)
    return normal(x), at


@pytest.mark.parametrize("kind", ["spike", "oscillation"])
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_a_burst_is_found_where_it_is(kind, wavelet):
    x, at = with_burst(kind)
    count, start, strength = find_bursts(x, FeatureSettings(wavelet=wavelet))
    assert (count == 1).all()
    assert np.abs(start[:, 0] - at).max() <= 3
    assert (start[:, 1:] == -1).all()
    assert (strength[:, 0] > 5).all()
    assert (strength[:, 1:] == 0).all()


def test_a_spike_in_a_flat_window_is_a_burst():
    x = np.zeros(256)
    x[100] = 1
    count, start, _ = find_bursts(normal(x), FeatureSettings())
    assert count[0] == 1
    assert abs(start[0, 0] - 100) <= 1


def test_a_wiggle_far_below_the_windows_own_movement_is_no_burst():
    # In a smooth window the noise level is almost nothing, and any rounding of a sensor would stand out of it.
    x = tones([100], 512)
    x[0, 200] += 0.02
    assert find_bursts(normal(x), FeatureSettings())[0][0] == 0


def test_bursts_are_ordered_by_strength_and_capped():
    x = 0.1 * noise(1, 512)
    for at, height in ((50, 4.0), (150, 7.0), (250, 5.0), (350, 6.0)):
        x[0, at] += height
    count, start, strength = find_bursts(normal(x), FeatureSettings(), bursts=3)
    assert count[0] == 4
    assert np.abs(start[0] - [150, 350, 250]).max() <= 1
    assert (np.diff(strength[0]) < 0).all()


def test_each_window_keeps_its_own_bursts():
    x, _ = with_burst("spike", windows=20)
    x[::3] = normal(noise(20, 512)[::3])
    together = find_bursts(x, FeatureSettings())
    for i in range(20):
        for whole, alone in zip(together, find_bursts(x[i : i + 1], FeatureSettings()), strict=True):
            np.testing.assert_array_equal(whole[i], alone[0])


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_a_plain_sine_has_no_bursts(wavelet):
    # Whatever the phase: the jump between the end of the window and its start is no event.
    periods = np.linspace(2.1, 300, 400)
    count, _, _ = find_bursts(normal(tones(periods, 500)), FeatureSettings(wavelet=wavelet))
    assert (count == 0).all()


def test_gaussian_noise_rarely_has_bursts():
    count, _, _ = find_bursts(normal(noise(3000, 512, 5)), FeatureSettings())
    assert (count > 0).mean() < 0.005


def test_a_lower_threshold_finds_more():
    x = normal(noise(200, 512, 6))
    low = find_bursts(x, FeatureSettings(burst_threshold=3.0))[0]
    high = find_bursts(x, FeatureSettings(burst_threshold=4.0))[0]
    assert (low >= high).all()
    assert low.sum() > high.sum()


@pytest.mark.parametrize("length", [1, 2, 7, 8, 505])
def test_the_median_is_numpys_to_the_bit(length):
    x = np.random.default_rng(length).standard_normal((20, length)).round(1)  # with equal values
    np.testing.assert_array_equal(_median(x), np.median(x, axis=-1))
