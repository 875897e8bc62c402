"""The closed form against numpy's least squares and brute force, and what it may look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from language import window_data

from wavecore.errors import DataError
from wavecore.learn.least_squares import RIDGES, least_squares
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData

BORDERS = Borders(train=(0, 250), select=(250, 320), decide=(320, 350), test=(350, 400))


def pairs(data: WindowData, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Windows [M, T] and targets [M, H] whose targets are all observed, one by one."""
    x, y = [], []
    values, observed = data.values.double().numpy(), data.observed.numpy()
    for origin in origins(BORDERS, split, data.window, data.horizon):
        for channel in range(values.shape[1]):
            if observed[origin : origin + data.horizon, channel].all():
                x.append(values[origin - data.window : origin, channel])
                y.append(values[origin : origin + data.horizon, channel])
    return np.array(x), np.array(y)


def by_hand(x: np.ndarray, y: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight [T, H] and bias [H] of the regression whose penalty stands as rows below the data."""
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    penalty = np.sqrt(ridge * np.var(x, axis=0).mean() * len(x)) * np.eye(x.shape[1])
    weight = np.linalg.lstsq(np.vstack([x - x_mean, penalty]), np.vstack([y - y_mean, 0 * penalty[:, : y.shape[1]]]))[0]
    return weight, y_mean - x_mean @ weight


@pytest.mark.parametrize("gaps", [False, True])
def test_equal_to_least_squares_by_hand(gaps: bool) -> None:
    data = window_data()
    if gaps:
        draw = np.random.default_rng(1)
        data = replace(data, observed=torch.from_numpy(draw.random(data.values.shape) > 0.02))
    affine, rows = least_squares(data, BORDERS, 1)
    (x, y), (seen, truth) = pairs(data, "train"), pairs(data, "select")
    assert len(x) < len(origins(BORDERS, "train", 64, 12)) * 3 or not gaps
    expected = []
    for form in ("as it is", "less its mean"):
        for ridge in RIDGES:
            m, n = (v.mean(axis=1, keepdims=True) if form != "as it is" else 0.0 for v in (x, seen))
            weight, bias = by_hand(x - m, y - m, ridge)
            ahead = (seen - n) @ weight + bias + n
            expected.append((form, ridge, np.square(ahead - truth).mean(), ahead))
    assert [(row["linear"], row["ridge"]) for row in rows] == [one[:2] for one in expected]
    np.testing.assert_allclose([row["error"] for row in rows], [one[2] for one in expected], rtol=1e-6)
    best = min(range(len(rows)), key=lambda i: rows[i]["error"])
    assert [i for i, row in enumerate(rows) if row["chosen"]] == [best]
    found = torch.from_numpy(seen) @ affine.weight.T + affine.bias
    np.testing.assert_allclose(found.numpy(), expected[best][3], rtol=1e-6, atol=1e-6)


def test_neither_decide_nor_test_is_looked_at() -> None:
    data = window_data()
    values = data.values.clone()
    values[320:] = 1e3
    one, other = least_squares(data, BORDERS, 1), least_squares(replace(data, values=values), BORDERS, 1)
    assert torch.equal(one[0].weight, other[0].weight)
    assert one[1] == other[1]


def test_a_window_that_never_changes_and_targets_that_are_not_there() -> None:
    data = window_data()
    still = replace(data, values=torch.full_like(data.values, 3.0))
    affine, rows = least_squares(still, BORDERS, 1)
    assert all(row["error"] == pytest.approx(0.0, abs=1e-12) for row in rows)
    assert torch.isfinite(affine.weight).all()
    gone = data.observed.clone()
    gone[250:320] = False
    with pytest.raises(DataError, match="select"):
        least_squares(replace(data, observed=gone), BORDERS, 1)
