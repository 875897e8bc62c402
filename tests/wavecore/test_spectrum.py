"""Movement, events and robustness: by hand, by pywt, and blind to how windows are batched."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from scipy.stats import entropy

from wavecore.config import FeatureSettings
from wavecore.judge.robustness import (
    DISTURBANCES,
    GAP,
    HEIGHT,
    NOISE,
    SHIFT,
    SPIKES,
    UNDISTURBED,
    disturbed,
    robust_rows,
    squared_errors,
)
from wavecore.judge.spectrum import SMOOTHING, Spectrum, divergences, event_rows
from wavecore.series.windows import Batch, WindowData

SETTINGS = FeatureSettings(wavelet="db2", levels=3)
H = 48


def waves(period: float, rows: int = 4, channels: int = 2) -> np.ndarray:
    t = np.arange(H)[None, :, None] + np.arange(rows)[:, None, None]
    return np.broadcast_to(np.sin(2 * np.pi * t / period), (rows, H, channels)).copy()


def rows_of(forecast: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None, events: np.ndarray | None = None):
    found = Spectrum(H, SETTINGS, np.zeros((200, 2), dtype=bool) if events is None else events)
    mask = np.ones_like(truth, dtype=bool) if mask is None else mask
    found.update(np.arange(len(truth)) + 20, forecast, truth, mask)
    return {(r["metric"], r["key"]): (r["value"], r["n"]) for r in found.rows()}


def test_a_perfect_forecast_and_one_of_another_scale() -> None:
    truth = waves(24)
    found = rows_of(truth, truth)
    assert found["dominant_agreement", "all"] == (1.0, 8)
    assert found["energy_kl", "all"][0] == pytest.approx(0, abs=1e-12)
    # Level and size play no part, only how energy is spread.
    assert rows_of(3 * truth + 5, truth)["energy_kl", "all"][0] == pytest.approx(0, abs=1e-9)
    other = rows_of(waves(3), truth)
    assert other["dominant_agreement", "all"] == (0.0, 8)
    assert other["energy_kl", "all"][0] > 1


def test_divergence_is_scipys_of_pywts_shares() -> None:
    random = np.random.default_rng(0)
    forecast, truth = random.normal(size=(2, 4, H, 2))
    shares = []
    for values in (truth, forecast):
        moving = values - values.mean(axis=1, keepdims=True)
        parts = pywt.wavedec(moving, "db2", mode="periodization", level=3, axis=1)
        energy = np.stack([np.square(p).sum(axis=1) for p in parts], axis=-1)
        shares.append(energy / energy.sum(axis=-1, keepdims=True))
    p, q = (s + SMOOTHING for s in shares)
    expected = entropy(p, q, axis=-1)
    np.testing.assert_allclose(divergences(*shares), expected, rtol=1e-10)
    found = rows_of(forecast, truth)
    assert found["energy_kl", "all"][0] == pytest.approx(expected.mean(), rel=1e-7)
    agree = (shares[0].argmax(-1) == shares[1].argmax(-1)).mean()
    assert found["dominant_agreement", "all"][0] == pytest.approx(agree)


def test_what_does_not_move_or_was_not_observed_does_not_count() -> None:
    truth, mask = waves(24), np.ones((4, H, 2), dtype=bool)
    truth[0, :, 0] = 7.0
    mask[1, 3, 1] = False
    truth[1, 3, 1] = np.nan
    found = rows_of(np.zeros_like(truth), truth, mask)
    assert found["dominant_agreement", "all"] == (0.0, 6), "a flat forecast agrees with nothing"
    assert found["energy_kl", "all"][1] == 6
    still = rows_of(truth * 0, truth * 0 + 1, np.ones_like(mask))
    assert still["dominant_agreement", "all"] == (None, 0)


def test_errors_inside_and_outside_of_events() -> None:
    random = np.random.default_rng(0)
    forecast, truth = random.normal(size=(2, 4, H, 2))
    mask = random.random((4, H, 2)) < 0.8
    events = random.random((200, 2)) < 0.3
    found = rows_of(forecast, truth, mask, events)
    rows = np.arange(4)[:, None] + 20 + np.arange(H)
    for key, chosen in (("inside", events[rows] & mask), ("outside", ~events[rows] & mask)):
        value, n = found["mse", key]
        assert n == chosen.sum()
        assert value == pytest.approx(np.square(forecast - truth)[chosen].mean(), rel=1e-7)


def test_batches_and_order_change_not_a_bit() -> None:
    random = np.random.default_rng(0)
    forecast, truth = random.normal(size=(2, 9, H, 2))
    mask, events = random.random((9, H, 2)) < 0.99, random.random((200, 2)) < 0.3
    whole, parts = (Spectrum(H, SETTINGS, events) for _ in range(2))
    whole.update(np.arange(9), forecast, truth, mask)
    for chosen in ([5, 2], [8, 0, 1], [7, 6], [3, 4]):
        parts.update(np.array(chosen), forecast[chosen], truth[chosen], mask[chosen])
    assert whole.rows() == parts.rows()


def test_events_are_where_bursts_are() -> None:
    random = np.random.default_rng(0)
    values = 0.05 * random.normal(size=(600, 2)) + np.sin(2 * np.pi * np.arange(600) / 48)[:, None]
    values[400:404, 1] += np.array([3.0, -3.0, 3.0, -3.0])
    values[100, 0] += 9.0  # before the span
    found = event_rows(values, (300, 600), FeatureSettings(wavelet="db4", levels=4))
    assert not found[:, 0].any()
    assert set(np.flatnonzero(found[:, 1])) >= set(range(398, 406))
    assert found[:, 1].sum() <= 30
    assert not event_rows(np.ones((50, 1)), (10, 40), FeatureSettings()).any()
    # Steep every day, steeper on one of them.
    daily = np.tile(np.where(np.arange(24) < 12, 0.0, 1.0), 50) + 0.001 * random.normal(size=1200)
    daily[720:732] = 3.0
    often = event_rows(daily[:, None], (0, 1200), FeatureSettings(wavelet="db4", levels=4))[:, 0]
    assert often[715:735].any()
    assert 0.04 < often.mean() < 0.07


def batch(rows: int = 3, length: int = 200) -> Batch:
    random = np.random.default_rng(1)
    x = torch.tensor(random.normal(2, 3, size=(rows, length, 2)), dtype=torch.float32)
    y = torch.zeros(rows, 5, 2)
    return Batch(x, y, torch.ones_like(y, dtype=torch.bool), torch.tensor([40, 7, 99]), torch.zeros(rows, 2, 4))


@pytest.mark.parametrize("name", list(DISTURBANCES))
def test_a_disturbance_is_of_its_window_alone(name: str) -> None:
    """The same for every stage and batch, and told to no one: prompts are made anew from what is seen."""
    one = batch()
    found = disturbed(one, name)
    assert found.facts is None
    assert torch.equal(found.y, one.y)
    assert not torch.equal(found.x, one.x)
    alone = disturbed(Batch(*(part[1:2] for part in one)), name)  # type: ignore[index]
    assert torch.equal(alone.x[0], found.x[1])


def test_disturbances_have_the_strength_that_they_name() -> None:
    one = batch(length=4000)
    sigma = one.x.std(dim=1, unbiased=False, keepdim=True)
    noise, spikes, gap, shift = (disturbed(one, name).x - one.x for name in DISTURBANCES)
    torch.testing.assert_close((noise / sigma).std(dim=1), torch.full((3, 2), NOISE), rtol=0.05, atol=0)
    hit = spikes.abs() > 1e-3
    assert float(hit.float().mean()) == pytest.approx(SPIKES, rel=0.2)
    torch.testing.assert_close((spikes / sigma)[hit].abs(), torch.full((int(hit.sum()),), HEIGHT), rtol=1e-3, atol=0)
    for row in range(3):
        touched = (gap[row] != 0).any(dim=-1).nonzero()[:, 0]
        assert len(touched) <= GAP * 4000
        assert int(touched[-1] - touched[0]) < GAP * 4000
    torch.testing.assert_close((shift / sigma)[:, :2000], torch.full((3, 2000, 2), SHIFT), rtol=1e-3, atol=1e-3)
    assert not shift[:, 2000:].any()


def test_disturbed_windows_are_the_same_for_every_stage_and_of_all_hours() -> None:
    values = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    data = WindowData(values, torch.ones(2000, 2, dtype=torch.bool), 48, 12)
    test = np.arange(500, 1900)
    seen: list[list[int]] = []

    class Last(torch.nn.Module):
        def forward(self, batch: Batch) -> torch.Tensor:
            seen.append(batch.origin.tolist())
            return batch.x[:, -1:].expand(-1, 12, -1)

    found = robust_rows(Last(), data, test, 16, 20, "float32")
    assert [row["key"] for row in found] == [UNDISTURBED, *DISTURBANCES]
    assert all(row["n"] == 88 * 12 * 2 for row in found)
    origins = sorted({origin for part in seen for origin in part})
    assert len(origins) == 88
    assert len({origin % 24 for origin in origins}) > 12
    batch = data.batch(np.array(origins))
    assert found[0]["value"] == pytest.approx(float((batch.x[:, -1:] - batch.y).square().mean()), rel=1e-5)
    assert found[1]["value"] > found[0]["value"]
    assert found == robust_rows(Last(), data, test, 16, 7, "float32")
    assert robust_rows(Last(), data, test, 0, 20, "float32") == []


def test_squared_errors_count_what_was_observed() -> None:
    one = batch()
    one.mask[0, 0, 0] = False
    forecast = np.full((3, 5, 2), 2.0, dtype=np.float32)
    forecast[0, 0, 0] = np.nan
    assert squared_errors(forecast, one) == (29 * 4.0, 29)
