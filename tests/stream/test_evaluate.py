"""A stream is judged as the other forecasters are: every window of the split, by the same judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_session import LEARNERS, ONLINE, SHAPE, H, N, T, linear, waves
from torch import Tensor

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError
from wavecore.judge.metrics import Judge
from wavecore.learn.forecast import forecast
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData
from wavecore.stream.evaluate import stream
from wavecore.stream.learners import Frozen
from wavecore.stream.settings import DelaySettings, OnlineSettings

BORDERS = Borders((0, 60), (60, 75), (75, 90), (90, 160))
SCALER = Scaler(np.zeros(N), np.ones(N))
SCALE = np.ones(N)


@pytest.fixture
def data() -> WindowData:
    return WindowData(waves(170), torch.ones(170, N, dtype=torch.bool), T, H)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_frozen_forecaster_has_the_errors_that_it_has_in_batches(split: str, data: WindowData) -> None:
    model = linear()
    found = stream(Frozen(model, H), data, BORDERS, SHAPE, ONLINE, SCALER, SCALE, split)
    judge = Judge(SHAPE.channels, H, SCALER, SCALE, FeatureSettings(wavelet="db2"))
    chosen = origins(BORDERS, split, T, H)
    for rows, ahead in forecast(model, data, chosen, 16, "float32"):
        batch = data.batch(rows)
        judge.update(rows, ahead, batch.y, batch.mask)
    expected = judge.result()
    assert found.result.n_windows == len(chosen) == len(found.forecast_seconds) == len(found.learn_seconds)
    assert found.result.mse == pytest.approx(expected.mse, rel=1e-5)
    np.testing.assert_array_equal(found.result.origins, expected.origins)
    np.testing.assert_allclose(found.result.origin_mse, expected.origin_mse, rtol=1e-4)


class Knows:
    """Forecasts what it is given, origin by origin."""

    def __init__(self, made: Tensor) -> None:
        self.made = made

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, None]:
        return self.made[origin : origin + H], None

    def learn(self, labels: object) -> None: ...

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: object) -> None: ...


def test_r2_is_around_the_mean_of_the_scored_targets(data: WindowData) -> None:
    perfect = stream(Knows(data.values), data, BORDERS, SHAPE, ONLINE, SCALER, SCALE)
    assert perfect.mean_r2 == pytest.approx(1)
    chosen = origins(BORDERS, "test", T, H)
    targets = np.stack([data.values[o : o + H].numpy() for o in chosen]).reshape(-1, N)
    flat = torch.from_numpy(targets.mean(axis=0)).expand(170, -1)
    assert np.abs(stream(Knows(flat), data, BORDERS, SHAPE, ONLINE, SCALER, SCALE).r2).max() < 1e-5
    draw = torch.from_numpy(np.random.default_rng(0).standard_normal((170, N))).float()
    made = np.stack([draw[o : o + H].numpy() for o in chosen]).reshape(-1, N)
    expected = 1 - ((made - targets) ** 2).sum(axis=0) / ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(stream(Knows(draw), data, BORDERS, SHAPE, ONLINE, SCALER, SCALE).r2, expected, rtol=1e-4)


def test_what_was_not_observed_is_no_target(data: WindowData) -> None:
    observed = data.observed.clone()
    observed[100:104, 0] = False
    gappy = WindowData(data.values, observed, T, H)
    with pytest.raises(DataError, match=r"row 100: no value of a"):
        stream(LEARNERS["gradient"](), gappy, BORDERS, SHAPE, ONLINE, SCALER, SCALE)
    online = OnlineSettings(missing="skip")
    found = stream(LEARNERS["gradient"](), gappy, BORDERS, SHAPE, online, SCALER, SCALE)
    full = stream(LEARNERS["gradient"](), data, BORDERS, SHAPE, online, SCALER, SCALE)
    # Four rows, each the target of H windows.
    assert full.result.n_points - found.result.n_points == 4 * H
    assert np.isfinite(found.r2).all()


def test_labels_in_time_are_counted(data: WindowData) -> None:
    count = len(origins(BORDERS, "test", T, H))
    for steps in (0, 5):
        online = OnlineSettings(delay=DelaySettings(steps=steps))
        assert stream(LEARNERS["elf"](), data, BORDERS, SHAPE, online, SCALER, SCALE).labels == count - H - steps
    with pytest.raises(SettingsError, match="no label would ever be known"):
        stream(LEARNERS["elf"](), data, BORDERS, SHAPE, OnlineSettings(delay=DelaySettings(steps=99)), SCALER, SCALE)


def test_titan_tells_of_every_forecast(data: WindowData) -> None:
    found = stream(LEARNERS["titan"](), data, BORDERS, SHAPE, ONLINE, SCALER, SCALE)
    chosen = origins(BORDERS, "test", T, H)
    assert [noted.origin for noted in found.noted] == chosen.tolist()
    assert [origin for origin, _ in found.errors] == chosen[:-H].tolist()


def test_a_gap_is_filled_as_in_every_window(data: WindowData) -> None:
    """Also at the first row that is pushed: the last value before it stands in, as in the judge's series."""
    observed = torch.ones_like(data.values, dtype=torch.bool)
    first = int(origins(BORDERS, "test", T, H)[0]) - T
    values = data.values.clone()
    for row in (first, first + 1, first + 30):
        observed[row] = False
        values[row] = values[row - 1]
    gaps = WindowData(values, observed, T, H)
    model = linear()
    found = stream(Frozen(model, H), gaps, BORDERS, SHAPE, OnlineSettings(missing="skip"), SCALER, SCALE)
    made = np.concatenate([ahead for _, ahead in forecast(model, gaps, origins(BORDERS, "test", T, H), 16, "float32")])
    truth, seen = gaps.batch(origins(BORDERS, "test", T, H)).y.numpy(), gaps.batch(origins(BORDERS, "test", T, H)).mask
    assert found.result.mse == pytest.approx(float(((made - truth)[seen.numpy()] ** 2).mean()), rel=1e-5)


@pytest.mark.parametrize(("steps", "fine"), [(61, True), (62, True), (63, False), (66, False)])
def test_a_delay_behind_which_no_label_comes_is_refused(steps: int, fine: bool, data: WindowData) -> None:
    online = OnlineSettings(delay=DelaySettings("fixed", steps))
    if fine:
        assert stream(Frozen(linear(), H), data, BORDERS, SHAPE, online, SCALER, SCALE).labels == 63 - steps
    else:
        with pytest.raises(SettingsError, match="no label would ever be known"):
            stream(Frozen(linear(), H), data, BORDERS, SHAPE, online, SCALER, SCALE)
