"""The loss per wavelet scale: against pywt by hand, its weights, its curriculum, and its state in a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wavecore.config import TrainSettings
from wavecore.errors import SettingsError
from wavecore.learn import loop
from wavecore.learn.curriculum import Curriculum, Loss, band_errors
from wavecore.learn.estimate import Estimate
from wavecore.learn.loop import train
from wavecore.learn.losses import mse
from wavecore.learn.settings import WaveletLossSettings
from wavecore.model.dlinear import DLinear, DLinearSettings
from wavecore.series.splits import Borders
from wavecore.series.windows import WindowData
from wavecore.strict import build

HORIZON = 24
BORDERS = Borders((0, 200), (200, 260), (260, 300), (300, 400))


def settings_of(**wavelet_loss: Any) -> TrainSettings:
    chosen = WaveletLossSettings(**{"enabled": True, "looks": 10, "windows": 8, "moves": 4, **wavelet_loss})
    return TrainSettings(
        steps=40, batch_windows=8, eval_every=20, checkpoint_every=6, patience=100, threads=1, device="cpu",
        wavelet_loss=chosen,
    )  # fmt: skip


def errors(horizon: int = HORIZON, missing: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(0)
    forecast, target = random.normal(size=(2, 3, horizon, 2))
    return torch.tensor(forecast), torch.tensor(target), torch.tensor(random.random((3, horizon, 2)) >= missing)


def data() -> WindowData:
    random = np.random.default_rng(0)
    t = np.arange(400)[:, None]
    values = np.sin(2 * np.pi * t / np.array([24, 7])) + 0.2 * random.normal(size=(400, 2))
    return WindowData(torch.tensor(values, dtype=torch.float32), torch.ones(400, 2, dtype=torch.bool), 48, HORIZON)


def trained(settings: TrainSettings, folder: Path | None = None) -> loop.Trained:
    torch.manual_seed(0)
    return train(DLinear(48, HORIZON, 2, DLinearSettings(kernel=5)), data(), BORDERS, settings, 0, folder, "hash")


@pytest.mark.parametrize("horizon", [24, 25, 96])
@pytest.mark.parametrize("mode", ["periodization", "symmetric"])
def test_it_is_pywts_difference_per_band(horizon: int, mode: str) -> None:
    forecast, target, mask = errors(horizon)
    loss = Loss(settings_of(levels=2, mode=mode, low=(0.7, 0.7), high=(0.3, 0.3)), horizon).double()
    parts = [pywt.wavedec(a.numpy(), "db2", mode=mode, level=2, axis=1) for a in (forecast, target)]
    energies = [np.square(f - t).sum() / forecast.numel() for f, t in zip(*parts, strict=True)]
    expected = float(mse(forecast, target, mask)) + 0.7 * energies[0] + 0.3 * np.sum(energies[1:])
    assert float(loss(forecast, target, mask)) == pytest.approx(expected, rel=1e-12)


def test_bands_sum_to_the_squared_error() -> None:
    forecast, target, mask = errors(96, missing=0.3)
    loss = Loss(settings_of(levels=3), 96)
    assert loss.analysis is not None
    found = band_errors(loss.analysis, forecast, target, mask)
    assert float(found.sum()) == pytest.approx(float(mse(forecast, target, mask)), rel=1e-9)


@pytest.mark.parametrize(("moves", "slow", "fast"), [(0, 2.0, 1.0), (8, 1.25, 2.0)])
def test_what_a_scale_counts_against_the_squared_error(moves: int, slow: float, fast: float) -> None:
    """An error in one band alone: the documented weights are what it costs, whatever the band's length."""
    loss = Loss(TrainSettings(wavelet_loss=WaveletLossSettings(enabled=True)), 96)
    assert loss.analysis is not None
    shapes = [part.shape[-1] for part in loss.analysis(torch.zeros(1, 96)).values()]
    for band in range(5):
        parts = [np.zeros(n) for n in shapes]
        parts[band][2] = 1.0
        error = torch.tensor(pywt.waverec(parts, "db2", mode="periodization"))[None, :, None]
        mask = torch.ones_like(error, dtype=torch.bool)
        ratio = float(loss(error, torch.zeros_like(error), mask, moves) / mse(error, torch.zeros_like(error), mask))
        assert ratio == pytest.approx(slow if band == 0 else fast, rel=1e-6)


@pytest.mark.parametrize("curriculum", ["improving", "none"])
def test_weights_of_zero_leave_the_loss_in_time_to_the_bit(curriculum: str) -> None:
    forecast, target, mask = (t.float() if t.is_floating_point() else t for t in errors(missing=0.2))
    settings = settings_of(low=(0.0, 0.0), high=(0.0, 0.0), curriculum=curriculum)
    for moves in (0, 4):
        assert torch.equal(Loss(settings, HORIZON)(forecast, target, mask, moves), mse(forecast, target, mask))
    plain = replace(settings, wavelet_loss=WaveletLossSettings())
    one, other = trained(settings), trained(plain)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [row["select"] for row in one.curve] == [row["select"] for row in other.curve]


def test_gradients_flow_through_every_band() -> None:
    forecast, target, mask = errors()
    loss = Loss(settings_of(low=(0.7, 0.7), high=(0.3, 0.3)), HORIZON).double()
    assert torch.autograd.gradcheck(lambda f: loss(f, target, mask), (forecast.requires_grad_(),))


def test_what_was_not_observed_has_no_gradient_and_broken_forecasts_show() -> None:
    forecast, target, mask = errors(missing=0.4)
    forecast.requires_grad_()
    loss = Loss(settings_of(low=(1.0, 1.0), high=(1.0, 1.0)), HORIZON)
    loss(forecast, target, mask).backward()
    assert forecast.grad is not None
    assert not forecast.grad[~mask].any()
    assert forecast.grad[mask].all()
    nothing = torch.zeros_like(mask)
    assert loss(forecast, target, nothing).item() == 0
    assert loss(forecast * torch.nan, target, nothing).isnan()


def test_the_weights_go_from_first_to_last() -> None:
    settings = WaveletLossSettings(low=(1.0, 0.2), high=(0.0, 0.4), moves=4)
    assert [settings.weights(m) for m in (0, 1, 4, 9)] == [
        (1.0, 0.0), (pytest.approx(0.8), pytest.approx(0.1)), (pytest.approx(0.2), 0.4), (pytest.approx(0.2), 0.4)
    ]  # fmt: skip
    assert replace(settings, curriculum="none").weights(0) == (0.2, 0.4)
    assert [settings.every(steps) for steps in (600, 150, 24, 3)] == [25, 6, 1, 1]


@given(st.lists(st.floats(0.1, 2.0), max_size=30), st.integers(1, 6))
def test_a_move_is_made_only_when_validation_improved(found: list[float], moves: int) -> None:
    settings = WaveletLossSettings(moves=moves)
    state, lows, highs = Curriculum(), [], []
    for step, error in enumerate(found, start=1):
        after = state.after(error, step, settings)
        better = state.best is not None and error < state.best
        assert after.moves == min(state.moves + better, moves)
        assert after.moved[len(state.moved) :] in ((), (step,))
        assert after.best == min(error, state.best if state.best is not None else error)
        state = after
        low, high = settings.weights(state.moves)
        lows.append(low)
        highs.append(high)
    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)


def test_a_run_follows_its_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = iter([1.0, 0.9, 0.95, 0.8, 0.85, 0.85, 0.85, 0.85, 0.85])
    looked: list[int] = []
    score = loop.evaluate

    def evaluated(model: Any, d: Any, chosen: np.ndarray, *rest: Any) -> float:
        if len(chosen) == 8:
            looked.append(len(looked))
            return next(scripted)
        return score(model, d, chosen, *rest)

    monkeypatch.setattr(loop, "evaluate", evaluated)
    done = trained(settings_of())
    assert [(row["step"], row["low"], row["high"]) for row in done.curve] == [
        (20, pytest.approx(0.625), 0.5), (40, pytest.approx(0.625), 0.5)
    ]  # fmt: skip
    assert len(looked) == 9, "at steps 4, 8, … 36; nothing follows step 40"
    assert [[step, round(low, 4), high] for step, low, high in done.curve[-1]["weights"]] == [
        [0, 1.0, 0.0], [8, 0.8125, 0.25], [16, 0.625, 0.5]
    ]  # fmt: skip


@pytest.mark.parametrize("at", [6, 17, 30])
def test_its_state_is_part_of_a_resume_checkpoint(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(settings_of())
    assert whole.curve[-1]["low"] < 1.0, "the curriculum must have moved for this test to say anything"
    step, calls = loop._Run.step, 0

    def interrupted(run: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        step(run)

    monkeypatch.setattr(loop._Run, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(settings_of(), tmp_path / "resume")
    monkeypatch.setattr(loop._Run, "step", step)
    again = trained(settings_of(), tmp_path / "resume")
    assert again.resumed_from == at - 1
    assert again.curve == whole.curve
    for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"low": [-0.1, 0.0]}, "below zero"),
        ({"high": [1.0, 0.0]}, "must not fall"),
        ({"low": [0.0, 1.0]}, "must not grow"),
        ({"low": [1.0]}, "low.*two weights"),
        ({"moves": 0}, "moves"),
        ({"looks": 0}, "looks"),
        ({"levels": 0}, "levels"),
        ({"windows": -1}, "windows"),
        ({"curriculum": "always"}, "improving"),
        ({"hight": [0.0, 1.0]}, "high"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        build(TrainSettings, {"wavelet_loss": wrong}, "params.yaml: train")


@pytest.mark.parametrize(
    ("wrong", "horizon", "named"),
    [({"wavelet": "db22x"}, 24, "wavelet"), ({"mode": "zeros"}, 24, "zero"), ({"wavelet": "db4"}, 12, "too short")],
)
def test_a_loss_that_cannot_be_computed_is_one_error(wrong: dict[str, Any], horizon: int, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Loss(settings_of(**wrong), horizon)


def test_a_curriculum_without_validation_data_is_an_error() -> None:
    empty = Borders((0, 200), (200, 210), (210, 300), (300, 400))
    with pytest.raises(SettingsError, match="select"):
        train(DLinear(48, HORIZON, 2, DLinearSettings(kernel=5)), data(), empty, settings_of(), 0)


def test_an_estimate_counts_its_looks() -> None:
    settings = settings_of()
    assert Estimate(1.0, 0.1, 10, 0, 8).training(settings) == pytest.approx(40 + (2 * 10 + 10 * 8) * 0.1)
    assert Estimate(1.0, 0.1, 10, 0, 8).steps_in(60, settings) == int(60 / (1 + (10 / 20 + 8 / 4) * 0.1))
