"""Prompt statistics against plain loops and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wavecore.prompt.statistics import DECIMALS, autocorrelation, statistics, top_lags

windows = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 40)),
    elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-100, 100, width=32)),
)


def lags_by_hand(row, k):
    """Direct sums over the overlap, without any transform."""
    length = len(row)
    if min(row) == max(row):
        return [0] * k
    moving = np.asarray(row) - np.mean(row)
    energy = float(np.sum(moving * moving))
    r = [round(float(np.sum(moving[: length - lag] * moving[lag:])) / energy, DECIMALS) for lag in range(length)]
    r.append(0.0)
    peaks = [lag for lag in range(1, length // 2 + 1) if r[lag] > r[lag - 1] and r[lag] >= r[lag + 1] and r[lag] > 0]
    peaks.sort(key=lambda lag: (-r[lag], lag))
    return (peaks + [0] * k)[:k]


def settled(row):
    """Whether no comparison between two correlations hangs on the last rounded digit."""
    moving = np.asarray(row) - np.mean(row)
    scaled = np.correlate(moving, moving, "full")[len(row) - 1 :] / max(float(np.sum(moving**2)), 1e-300) * 10**DECIMALS
    return bool((np.abs(scaled - np.floor(scaled) - 0.5) > 1e-3).all())


@settings(deadline=None)
@given(windows)
def test_extremes_median_and_trend(x):
    found = statistics(x)
    for i, row in enumerate(x):
        ordered = sorted(row)
        assert found["min"][i] == ordered[0]
        assert found["max"][i] == ordered[-1]
        assert found["median"][i] == ordered[(len(row) - 1) // 2]
        assert found["trend"][i] == row[-1] - row[0]
    np.testing.assert_array_equal(found["median"], torch.from_numpy(x).median(dim=-1).values.numpy())


@settings(deadline=None, max_examples=200)
@given(windows, st.integers(1, 6))
def test_lags_are_those_of_direct_sums(x, k):
    x = np.array([row for row in x if settled(row) or row.min() == row.max()]).reshape(-1, x.shape[1])
    assert top_lags(x, k).tolist() == [lags_by_hand(row, k) for row in x]


def test_lags_of_long_random_windows_are_those_of_direct_sums():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((5, 200)), rng.standard_normal((5, 200)).cumsum(-1)])
    assert top_lags(x, 8).tolist() == [lags_by_hand(row, 8) for row in x]


def test_autocorrelation_is_linear_not_circular():
    # Equal ends and nothing between: around a circle they would be neighbours.
    x = np.zeros((1, 40))
    x[0, 0] = x[0, -1] = 1
    assert autocorrelation(x)[0, 1] < 0.2
    assert autocorrelation(x).shape == (1, 22)
    np.testing.assert_allclose(autocorrelation(x)[:, 0], 1)


@pytest.mark.parametrize("period", [7, 24, 50])
def test_the_first_lag_of_a_periodic_window_is_its_period_and_the_rest_multiples(period):
    rng = np.random.default_rng(period)
    x = np.tile(np.sin(2 * np.pi * np.arange(period) / period), 600 // period)[None, :512]
    found = top_lags(x + 0.05 * rng.standard_normal(x.shape), 3)[0]
    assert abs(found[0] - period) <= 1
    assert all(lag % period <= 2 or lag % period >= period - 2 for lag in found)


def test_lags_hold_no_zero_lag_and_no_mirror_and_are_distinct():
    x = np.random.default_rng(1).standard_normal((50, 101))
    found = top_lags(x, 5)
    assert found.min() >= 0
    assert found.max() <= 50
    for row in found:
        real = row[row > 0]
        assert len(set(real.tolist())) == len(real)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e8])
def test_a_window_without_peaks_has_zeros(level):
    assert (top_lags(np.full((2, 64), level), 5) == 0).all()
    assert (top_lags(np.arange(64.0)[None], 5) == 0).all()


def test_more_lags_than_there_can_be():
    assert top_lags(np.array([[0.0, 1.0]]), 5).tolist() == [[0] * 5]


def test_the_median_does_not_keep_the_windows_alive():
    assert statistics(np.random.default_rng(0).standard_normal((4, 100)))["median"].base is None
