"""How volatile a channel is and how many periods it has, where both are known."""

from __future__ import annotations

import numpy as np
import pytest

from wavecore.character import periods, volatility
from wavecore.series.arrays import SeriesArrays, from_values

ROWS = 4000


def arrays(*channels: np.ndarray) -> SeriesArrays:
    times = np.datetime64("2024-01-01", "us") + np.arange(ROWS) * np.timedelta64(1, "h")
    return from_values(times, [f"c{i}" for i in range(len(channels))], np.stack(channels, axis=1))


def sines(*lengths: float, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    t = np.arange(ROWS)
    waves = sum(np.sin(2 * np.pi * t / length + i) for i, length in enumerate(lengths))
    return waves + noise * np.random.default_rng(seed).standard_normal(ROWS)


def test_volatility_is_that_of_white_noise_and_of_a_sine() -> None:
    white = np.random.default_rng(0).standard_normal(ROWS)
    slow = np.sin(2 * np.pi * np.arange(ROWS) / 100)
    found = volatility(arrays(white, 5 + 100 * white, slow, np.full(ROWS, 3.0)), (0, ROWS))
    assert found[0] == pytest.approx(np.sqrt(2), rel=0.03)
    assert found[1] == pytest.approx(found[0], rel=1e-9), "neither level nor unit play a part"
    assert found[2] == pytest.approx(2 * np.sin(np.pi / 100), rel=0.01)
    assert np.isnan(found[3])


def test_periods_are_counted() -> None:
    lengths = ((24.0,), (24.0, 168.0), (24.0, 12.0, 60.0), (7.3, 19.0, 48.0, 120.0))
    series = arrays(*(sines(*own, seed=i) for i, own in enumerate(lengths)))
    assert periods(series, (0, ROWS), 512).tolist() == [1, 2, 3, 4]


def test_noise_a_trend_and_a_constant_have_no_period() -> None:
    random = np.random.default_rng(1)
    walk = random.standard_normal(ROWS).cumsum()
    series = arrays(random.standard_normal(ROWS), np.arange(ROWS) * 1.0, np.full(ROWS, 2.0), walk)
    assert periods(series, (0, ROWS), 512).tolist() == [0, 0, 0, 0]


def test_nothing_but_train_rows_is_looked_at() -> None:
    wild = sines(24.0)
    wild[3000:] = 1e6 * sines(5.0)[3000:]
    calm = sines(24.0)
    for measure in (lambda a: volatility(a, (0, 3000)), lambda a: periods(a, (0, 3000), 512)):
        assert measure(arrays(wild)) == measure(arrays(calm))


def test_what_was_not_observed_is_no_change() -> None:
    series = sines(24.0, noise=0.0)
    gap = series.copy()
    gap[1000:1200] = np.nan
    whole, holed = arrays(series), arrays(gap)
    assert volatility(holed, (0, ROWS))[0] == pytest.approx(volatility(whole, (0, ROWS))[0], rel=0.02)
    assert periods(holed, (0, ROWS), 512).tolist() == [1]
