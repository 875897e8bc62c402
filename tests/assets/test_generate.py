"""The generated series: always the same bytes, with the events it says it has, learnable and not trivial."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from assets.ingest.generate import as_csv, bursts, holidays, load_grid


@pytest.mark.parametrize(
    ("rows", "channels", "sha256"),
    [
        (6720, 4, "79fedc012a6ce8d35555c9f4708d1406b698e78dde6d7dc3a07c8cc8dd007fc1"),
        (900, 2, "e404cc798c265ac70e1e9f3ac1b5033d07e1ab0b3bc2ed6c48a5257fba1812fb"),
    ],
)
def test_the_bytes_never_change(rows: int, channels: int, sha256: str) -> None:
    assert hashlib.sha256(as_csv(*load_grid(7, rows, channels))).hexdigest() == sha256


def test_shape_and_seed() -> None:
    stamps, names, values = load_grid(1, 100, 3)
    assert values.shape == (100, 3)
    assert names == ("north", "industry", "south")
    assert (np.diff(stamps) == np.timedelta64(1, "h")).all()
    assert np.isfinite(values).all()
    assert values.min() >= 0
    assert not np.array_equal(values, load_grid(2, 100, 3)[2])


def test_fewer_channels_are_the_first_of_more() -> None:
    np.testing.assert_array_equal(load_grid(7, 500, 2)[2], load_grid(7, 500, 4)[2][:, :2])


def test_bursts_are_where_they_are_said_to_be() -> None:
    rows = 6720
    values = load_grid(7, rows)[2]
    found = bursts(7, rows)
    assert len(found) > 60
    rises = [values[e.start, e.channel] - values[e.start - 1, e.channel] for e in found if e.size > 0]
    usual = np.abs(np.diff(values, axis=0)).mean(0)
    assert (
        np.mean([r > 2 * usual[e.channel] for r, e in zip(rises, [e for e in found if e.size > 0], strict=True)]) > 0.9
    )
    for channel in range(4):
        own = [e for e in found if e.channel == channel]
        assert all(a.stop <= b.start for a, b in itertools.pairwise(own))
        assert bool(own) == (channel != 3)


def test_holidays_are_working_days_that_look_like_sundays() -> None:
    rows = 6720
    industry = load_grid(7, rows)[2][:, 1].reshape(-1, 24).sum(1)
    days = [event.start // 24 for event in holidays(7, rows)]
    assert len(days) >= 10
    assert all(day % 7 < 5 for day in days)
    ordinary = [d for d in range(rows // 24) if d % 7 < 5 and d not in days]
    assert np.mean(industry[days]) < 0.65 * np.mean(industry[ordinary])
    # Every split of the demo has some.
    assert {min(2, int(d >= 196) + int(d >= 238)) for d in days} == {0, 1, 2}


def test_volatility_changes() -> None:
    values = load_grid(7, 6720)[2][:, 0]
    rough = np.abs(np.diff(values, 2))
    weeks = rough[: 39 * 168].reshape(39, 168)
    spread = np.median(weeks, axis=1)
    assert spread.max() > 1.5 * spread.min()


def test_a_linear_forecast_clearly_beats_the_seasonal_naive() -> None:
    window, horizon, train, test = 168, 24, 4704, 5712
    values = load_grid(7, 6720)[2]
    scaled = (values - values[:train].mean(0)) / values[:train].std(0)
    linear, naive = [], []
    for series in scaled.T:
        views = np.lib.stride_tricks.sliding_window_view(series, window + horizon)

        def split(part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            last = part[:, window - 1 : window]
            return part[:, :window] - last, part[:, window:] - last, last

        x, y, _ = split(views[: train - window - horizon + 1])
        weights = np.linalg.solve(x.T @ x + 30 * np.eye(window), x.T @ y)
        x, y, _ = split(views[test - window :])
        linear.append(((x @ weights - y) ** 2).mean())
        naive.append(((x[:, -24:] - y) ** 2).mean())
    assert 0.1 < np.mean(linear) < 0.6 * np.mean(naive)
