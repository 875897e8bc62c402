"""The training loop: the loss and one step by hand, schedules, early stopping, NaN, and resume to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wavecore.config import TrainSettings
from wavecore.errors import DataError, SettingsError, StorageError, TrainingError
from wavecore.learn import device, loop
from wavecore.learn.checkpoint import discard_resume, trainable
from wavecore.learn.device import Place, accelerator, place_of, threads
from wavecore.learn.estimate import estimate_seconds
from wavecore.learn.forecast import predict
from wavecore.learn.interrupt import whole
from wavecore.learn.loop import Trained, train
from wavecore.learn.losses import loss_of, mae, masked_sum, mse
from wavecore.learn.schedule import WindowOrder, learning_rate_at, validation_subset
from wavecore.model.dlinear import DLinear, DLinearSettings
from wavecore.model.groups import ParameterGroup
from wavecore.model.seasonal import SeasonalNaive
from wavecore.seeds import derive, generator, isolated
from wavecore.series.splits import Borders
from wavecore.series.windows import Batch, WindowData

ROOT = Path(__file__).parents[2]
BORDERS = Borders((0, 120), (120, 150), (150, 170), (170, 200))
SETTINGS = TrainSettings(
    steps=40, batch_windows=8, eval_every=5, checkpoint_every=7, patience=100, threads=1, device="cpu"
)


class Noisy(nn.Module):
    """DLinear behind dropout, so that noise matters, with a frozen weight beside it."""

    def __init__(self, at: int | None = None, act: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.inner = DLinear(12, 4, 2, DLinearSettings(kernel=5))
        self.drop = nn.Dropout(0.3)
        self.frozen = nn.Parameter(torch.full((1,), 0.5), requires_grad=False)
        self.at, self.act, self.calls = at, act, 0

    def forward(self, batch: Batch) -> torch.Tensor:
        if self.training:
            self.calls += 1
            if self.calls == self.at and self.act is not None:
                self.act()
        return self.inner(batch._replace(x=self.drop(batch.x))) * (self.frozen + 0.5)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return self.inner.parameter_groups()


def wave(missing: float = 0.0) -> WindowData:
    rng = np.random.default_rng(3)
    t = np.arange(200)[:, None]
    values = np.sin(2 * np.pi * t / np.array([12, 7])) + 0.3 * rng.normal(size=(200, 2))
    observed = rng.random((200, 2)) >= missing
    return WindowData(torch.tensor(values, dtype=torch.float32), torch.tensor(observed), 12, 4)


def same(one: Trained, other: Trained) -> None:
    for (name, a), b in zip(trainable(one.model).items(), trainable(other.model).values(), strict=True):
        assert torch.equal(a, b), name
    assert one.curve == other.curve
    assert (one.best_step, one.steps, one.stopped) == (other.best_step, other.steps, other.stopped)


# --- losses ---------------------------------------------------------------------------------------------------------


def test_losses_count_observed_targets_only() -> None:
    rng = np.random.default_rng(0)
    forecast, target = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    mask = rng.random((3, 4, 5)) < 0.6
    tensors = torch.tensor(forecast), torch.tensor(target), torch.tensor(mask)
    error = (forecast - target)[mask].astype(np.float64)
    assert mse(*tensors).item() == pytest.approx((error**2).mean(), rel=1e-6)
    assert mae(*tensors).item() == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert masked_sum("mse", *tensors) == (pytest.approx((error**2).sum(), rel=1e-6), mask.sum())
    assert masked_sum("mae", *tensors) == (pytest.approx(np.abs(error).sum(), rel=1e-6), mask.sum())
    assert loss_of("mse") is mse
    assert loss_of("mae") is mae


def test_a_batch_without_observed_targets_has_no_loss_and_no_gradient() -> None:
    forecast = torch.ones(1, 2, 1, requires_grad=True)
    loss = mse(forecast, torch.zeros(1, 2, 1), torch.zeros(1, 2, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert forecast.grad is not None
    assert not forecast.grad.any()


def test_the_mask_hides_no_broken_forecast() -> None:
    forecast = torch.tensor([[[torch.nan]]])
    assert mse(forecast, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.bool)).isnan()


def test_the_gradient_is_the_one_derived_by_hand() -> None:
    # d/dW of mean((x Wᵀ + b - y)²) over the observed targets is 2/M · Σ eᵀ x; without decay the first step of AdamW is
    # lr · g / (|g| + eps).
    data = wave(missing=0.3)
    model = DLinear(12, 4, 2, DLinearSettings(kernel=1))
    settings = replace(SETTINGS, steps=1, eval_every=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    batch = data.batch(WindowOrder(np.arange(12, 117), 8, seed=4).at(0))
    x, y, mask = (t.double().numpy() for t in batch[:3])
    # With a kernel of 1 the trend is the window itself and the remainder is zero.
    e = (np.einsum("btn,ht->bhn", x, before["trend.weight"].double().numpy()) - y) * mask
    gradient = 2 / mask.sum() * np.einsum("bhn,btn->ht", e, x)
    result = train(model, data, BORDERS, settings, seed=4)
    assert result.curve[0]["loss"] == pytest.approx((e**2).sum() / mask.sum(), rel=1e-5)
    want = before["trend.weight"].numpy() - 1e-3 * gradient / (np.abs(gradient) + 1e-8)
    np.testing.assert_allclose(model.trend.weight.detach().numpy(), want, atol=1e-6)
    # A gradient of zero moves nothing.
    assert torch.equal(model.remainder.weight, before["remainder.weight"])


# --- schedules and order --------------------------------------------------------------------------------------------


def rates(**changes: Any) -> list[float]:
    settings = replace(TrainSettings(steps=8, learning_rate=1.0), **changes)
    return [learning_rate_at(step, settings) for step in range(settings.steps)]


def test_schedules() -> None:
    assert rates() == [1.0] * 8
    assert rates(schedule="halving", halve_every=3) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    cosine = rates(schedule="cosine")
    assert cosine == pytest.approx([0.5 * (1 + np.cos(np.pi * s / 8)) for s in range(8)])
    assert rates(warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    warm = rates(schedule="cosine", warmup_steps=4)
    assert warm[:4] == [0.25, 0.5, 0.75, 1.0]
    assert warm[4:] == pytest.approx([0.5 * (1 + np.cos(np.pi * s / 4)) for s in range(4)])
    assert rates(schedule="cosine", warmup_steps=8) == pytest.approx([(s + 1) / 8 for s in range(8)])
    assert min(rates(schedule="cosine", warmup_steps=20)) > 0


def test_the_schedule_is_the_one_used() -> None:
    settings = replace(SETTINGS, steps=8, eval_every=1, schedule="cosine", warmup_steps=3)
    curve = train(Noisy(), wave(), BORDERS, settings, seed=0).curve
    assert [row["learning_rate"] for row in curve] == [learning_rate_at(s, settings) for s in range(8)]


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (10, 10), (10, 99), (7, 3), (1, 1)])
def test_every_window_is_seen_equally_often(count: int, batch: int) -> None:
    rows = np.arange(100, 100 + count)
    order = WindowOrder(rows, batch, seed=0)
    size = min(count, batch)
    seen = np.concatenate([order.at(step) for step in range(3 * count)])
    assert all(len(order.at(step)) == size for step in range(5))
    for epoch in range(len(seen) // count):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == rows.tolist()


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    rows = np.arange(50)
    order, other = WindowOrder(rows, 8, seed=1), WindowOrder(rows, 8, seed=2)
    want = [order.at(step).tolist() for step in range(20)]
    assert [WindowOrder(rows, 8, seed=1).at(step).tolist() for step in reversed(range(20))] == want[::-1]
    assert other.at(0).tolist() != want[0]
    assert order.epoch(0).tolist() != order.epoch(1).tolist()


def test_the_validation_subset_is_fixed() -> None:
    rows = np.arange(30, 80)
    assert validation_subset(rows, 0) is rows
    assert validation_subset(rows, 50) is rows
    some = validation_subset(rows, 9)
    assert len(set(some.tolist())) == 9
    assert sorted(some) == some.tolist()
    assert some.tolist() == validation_subset(rows, 9).tolist()
    assert set(some) <= set(rows)


def test_derived_seeds_differ_by_purpose() -> None:
    seeds = {derive(s, name, n) for s in range(3) for name in ("epoch", "noise") for n in range(3)}
    assert len(seeds) == 18
    assert all(0 <= s < 2**63 for s in seeds)
    assert derive(1, "a", 2) == derive(1, "a", 2)
    assert generator(0, "x").integers(1 << 30) == generator(0, "x").integers(1 << 30)


# --- a run ----------------------------------------------------------------------------------------------------------


def test_training_lowers_the_error_and_repeats_itself() -> None:
    one = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    assert [row["step"] for row in one.curve] == list(range(5, 41, 5))
    assert one.curve[-1]["select"] < one.curve[0]["select"]
    assert (one.steps, one.stopped, one.resumed_from, one.notes) == (40, "steps", None, ())
    same(one, train(Noisy(), wave(), BORDERS, SETTINGS, seed=0))
    other = train(Noisy(), wave(), BORDERS, SETTINGS, seed=1)
    assert other.curve != one.curve


def test_the_last_step_is_validated() -> None:
    curve = train(Noisy(), wave(), BORDERS, replace(SETTINGS, steps=7), seed=0).curve
    assert [row["step"] for row in curve] == [5, 7]


def test_frozen_weights_stay() -> None:
    result = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    assert isinstance(result.model, Noisy)
    assert result.model.frozen.item() == 0.5


def test_random_state_threads_and_modes_are_left_alone() -> None:
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002
    state, other, count = torch.random.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    model = Noisy()
    model.drop.eval()
    train(model, wave(), BORDERS, replace(SETTINGS, threads=3), seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    assert (np.random.get_state()[1] == other).all()  # noqa: NPY002
    assert torch.get_num_threads() == count
    assert model.training
    assert not model.drop.training


def test_a_run_does_not_depend_on_the_random_state_it_finds() -> None:
    torch.manual_seed(1)
    one = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    torch.manual_seed(2)
    same(one, train(Noisy(), wave(), BORDERS, SETTINGS, seed=0))


def test_isolated_puts_the_state_back_after_an_error() -> None:
    state = torch.random.get_rng_state()

    def fails() -> None:
        with isolated(torch.device("cpu"), 3):
            torch.rand(4)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert torch.equal(state, torch.random.get_rng_state())


def test_threads_are_put_back_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fails() -> None:
        with threads(before + 1):
            inside.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_validation_is_the_plain_error_on_select() -> None:
    data = wave(missing=0.3)
    for name in ("mse", "mae"):
        settings = replace(SETTINGS, steps=5, loss=name)
        result = train(Noisy(), data, BORDERS, settings, seed=0)
        batch = data.batch(np.arange(120, 147))
        error = (predict(result.model, batch) - batch.y.numpy())[batch.mask.numpy()].astype(np.float64)
        want = (error**2).mean() if name == "mse" else np.abs(error).mean()
        assert result.curve[0]["select"] == pytest.approx(want, rel=1e-6)


def test_decide_and_test_are_not_looked_at() -> None:
    data = wave()
    values = data.values.clone()
    values[150:] = 1e4
    same(
        train(Noisy(), data, BORDERS, SETTINGS, seed=0),
        train(Noisy(), replace(data, values=values), BORDERS, SETTINGS, seed=0),
    )


def test_early_stopping_ends_with_the_best_weights() -> None:
    # A huge learning rate: the error soon rises, so the best is not the last.
    settings = replace(SETTINGS, steps=400, eval_every=1, learning_rate=0.3, patience=4)
    data = wave()
    result = train(Noisy(), data, BORDERS, settings, seed=0)
    select = [row["select"] for row in result.curve]
    assert result.stopped == "patience"
    assert result.best_step == int(np.argmin(select)) + 1
    assert result.steps == result.best_step + 4 == len(select)
    batch = data.batch(np.arange(120, 147))
    error = (predict(result.model, batch) - batch.y.numpy()).astype(np.float64)
    assert (error**2).mean() == pytest.approx(min(select), rel=1e-6)


def test_clipping_bounds_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    plain = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        gradients = [p.grad.flatten() for g in self.param_groups for p in g["params"]]
        norms.append(torch.cat(gradients).norm().item())
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(Noisy(), wave(), BORDERS, replace(SETTINGS, steps=5), seed=0)
    free = max(norms)
    norms.clear()
    train(Noisy(), wave(), BORDERS, replace(SETTINGS, steps=5, clip_norm=free / 10), seed=0)
    assert max(norms) <= free / 10 * (1 + 1e-5)


def test_groups_have_their_own_speed() -> None:
    class Slow(Noisy):
        def parameter_groups(self) -> tuple[ParameterGroup, ...]:
            trend, rest = super().parameter_groups()
            return trend, replace(rest, learning_rate_scale=0.0, decay=False)

    model = Slow()
    before = model.inner.remainder.weight.detach().clone()
    train(model, wave(), BORDERS, replace(SETTINGS, steps=5, weight_decay=0.5), seed=0)
    assert torch.equal(model.inner.remainder.weight, before)
    assert not torch.equal(model.inner.trend.weight, torch.full((4, 12), 1 / 12))


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    model = Noisy(at=13)
    model.act = lambda: model.inner.trend.bias.data.fill_(torch.nan)
    with pytest.raises(TrainingError, match="etth1_96 × dlinear: the training loss is nan at step 13 of 40"):
        train(model, wave(), BORDERS, SETTINGS, seed=0, where="etth1_96 × dlinear")


def test_an_error_on_select_that_is_not_finite_names_its_step() -> None:
    class Brittle(Noisy):
        def forward(self, batch: Batch) -> torch.Tensor:
            return super().forward(batch) if self.training else batch.y / 0

    with pytest.raises(TrainingError, match=r"the error on `select` is (nan|inf) at step 5 of 40"):
        train(Brittle(), wave(), BORDERS, SETTINGS, seed=0)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(TrainingError, match="SeasonalNaive has no trainable weights"):
        train(SeasonalNaive(12, 4, 7), wave(), BORDERS, SETTINGS, seed=0)


def test_a_select_split_without_a_value_is_an_error() -> None:
    data = wave()
    observed = data.observed.clone()
    observed[120:150] = False
    with pytest.raises(DataError, match="no target was observed in rows 120 to 150"):
        train(Noisy(), replace(data, observed=observed), BORDERS, SETTINGS, seed=0)


def test_state_outside_the_weights_is_an_error() -> None:
    class Remembers(Noisy):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(12)

        def forward(self, batch: Batch) -> torch.Tensor:
            return super().forward(batch._replace(x=self.norm(batch.x)))

        def parameter_groups(self) -> tuple[ParameterGroup, ...]:
            return (*super().parameter_groups(), ParameterGroup("norm", tuple(self.norm.parameters())))

    with pytest.raises(TrainingError, match=r"the buffer 'norm\.running_mean' changes"):
        train(Remembers(), wave(), BORDERS, SETTINGS, seed=0)


def test_the_progress_bar_is_off_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    train(Noisy(), wave(), BORDERS, replace(SETTINGS, steps=5), seed=0, progress=True)
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_is_drawn_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(Noisy(), wave(), BORDERS, replace(SETTINGS, steps=5), seed=0, progress=True, where="tiny × dlinear")
    out, err = capsys.readouterr()
    assert out == ""
    assert "tiny × dlinear: 100%" in err
    train(Noisy(), wave(), BORDERS, replace(SETTINGS, steps=5), seed=0, progress=False)
    assert capsys.readouterr() == ("", "")


# --- device and precision -------------------------------------------------------------------------------------------


def test_bf16_runs_on_the_cpu_and_float32_after_it() -> None:
    types: list[torch.dtype] = []

    class Watched(Noisy):
        def forward(self, batch: Batch) -> torch.Tensor:
            y = super().forward(batch)
            types.append(self.inner.trend(batch.x.transpose(1, 2)).dtype)
            return y

    mixed = train(Watched(), wave(), BORDERS, replace(SETTINGS, precision="bf16"), seed=0)
    assert set(types) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())
    types.clear()
    full = train(Watched(), wave(), BORDERS, SETTINGS, seed=0)
    assert set(types) == {torch.float32}
    assert mixed.curve != full.curve
    assert mixed.curve[-1]["select"] == pytest.approx(full.curve[-1]["select"], rel=0.05)


def test_auto_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    auto = TrainSettings(precision="auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert place_of(auto) == Place("cpu", "bf16")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with caplog.at_level("INFO", logger="wavecore"):
        device._say_once.cache_clear()
        assert [place_of(auto) for _ in range(3)] == [Place("cpu", "float32")] * 3
    assert [r.getMessage() for r in caplog.records] == [
        "cpu has no bf16 of its own: computing in float32 (train.precision: auto)"  # said once
    ]
    assert place_of(replace(auto, precision="bf16")) == Place("cpu", "bf16")
    with pytest.raises(SettingsError, match="no CUDA device"):
        place_of(replace(auto, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert place_of(auto) == Place("cuda", "bf16")
    assert place_of(replace(auto, device="cpu")) == Place("cpu", "float32")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert place_of(auto) == Place("cuda", "float32")


def test_accelerate_forgets_between_runs() -> None:
    for precision in ("bf16", "float32", "bf16"):
        with accelerator(Place("cpu", precision)) as engine:  # type: ignore[arg-type]
            assert engine.device.type == "cpu"
            assert engine.mixed_precision == ("bf16" if precision == "bf16" else "no")


# --- interrupts and resume ------------------------------------------------------------------------------------------


class Crash(Exception):
    """A fault in the middle of a step."""


def crash() -> None:
    raise Crash


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("at", [3, 8, 15, 16, 31, 40])
@pytest.mark.parametrize(("act", "error"), [(crash, Crash), (interrupt, KeyboardInterrupt)])
def test_a_run_that_was_stopped_ends_as_if_it_had_not(
    tmp_path: Path, at: int, act: Callable[[], None], error: type[BaseException]
) -> None:
    want = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    with pytest.raises(error):
        train(Noisy(at, act), wave(), BORDERS, SETTINGS, 0, tmp_path / "resume", "hash")
    result = train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path / "resume", "hash")
    same(result, want)
    # A fault falls back to the last checkpoint, an interrupt loses nothing.
    done = (at - 1) // 7 * 7 if error is Crash else at - 1
    assert result.resumed_from == (done or None)
    assert len(result.notes) == (1 if done else 0)


def test_a_run_that_was_stopped_twice(tmp_path: Path) -> None:
    want = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    for at in (11, 9):
        with pytest.raises(KeyboardInterrupt):
            train(Noisy(at, interrupt), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    result = train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    assert result.resumed_from == 18
    same(result, want)


def test_an_interrupt_during_validation_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    plain, calls = loop.evaluate, []

    def once(*args: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(loop, "evaluate", once)
    with pytest.raises(KeyboardInterrupt):
        train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    result = train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    assert result.resumed_from == 15
    same(result, want)


def test_early_stopping_survives_a_stop(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=400, eval_every=1, learning_rate=0.3, patience=4)
    want = train(Noisy(), wave(), BORDERS, settings, seed=0)
    with pytest.raises(KeyboardInterrupt):
        train(Noisy(want.best_step + 3, interrupt), wave(), BORDERS, settings, 0, tmp_path, "hash")
    same(train(Noisy(), wave(), BORDERS, settings, 0, tmp_path, "hash"), want)


def test_a_signal_waits_until_the_step_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    plain, calls = torch.optim.AdamW.step, []

    def struck(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", struck)
    with pytest.raises(KeyboardInterrupt):
        train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    result = train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    assert result.resumed_from == 9
    same(result, want)


def test_signal_handlers_are_put_back() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    reached = []

    def struck() -> None:
        with whole():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(1)

    with pytest.raises(KeyboardInterrupt):
        struck()
    assert reached
    with pytest.raises(KeyError), whole():
        raise KeyError
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("change", ["hash", "settings", "seed"])
def test_a_checkpoint_of_another_run_is_reported_and_not_used(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Noisy(20, interrupt), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    settings = replace(SETTINGS, learning_rate=2e-3) if change == "settings" else SETTINGS
    seed = 1 if change == "seed" else 0
    result = train(Noisy(), wave(), BORDERS, settings, seed, tmp_path, "other" if change == "hash" else "hash")
    assert result.resumed_from is None
    assert "belongs to a run with other settings" in result.notes[0]
    assert "starts anew" in caplog.text
    same(result, train(Noisy(), wave(), BORDERS, settings, seed))


@pytest.mark.parametrize("damage", ["truncated tensors", "changed tensors", "no tensors", "truncated state", "state"])
def test_a_damaged_checkpoint_is_reported_and_not_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Noisy(20, interrupt), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    state, tensors = tmp_path / "state.json", next(tmp_path.glob("*.safetensors"))
    if damage == "truncated tensors":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif damage == "changed tensors":
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif damage == "no tensors":
        tensors.unlink()
    elif damage == "truncated state":
        state.write_text(state.read_text()[:200])
    else:
        state.write_text(state.read_text().replace('"step": 19', '"step": 18'))
    result = train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    assert result.resumed_from is None
    assert str(state if "state" in damage else tensors) in result.notes[0]
    assert "starts anew" in caplog.text
    same(result, train(Noisy(), wave(), BORDERS, SETTINGS, seed=0))


def test_a_checkpoint_holds_no_frozen_weight_and_can_be_discarded(tmp_path: Path) -> None:
    from safetensors import safe_open

    with pytest.raises(KeyboardInterrupt):
        train(Noisy(20, interrupt), wave(), BORDERS, SETTINGS, 0, tmp_path / "run", "hash")
    files = sorted(f.name for f in (tmp_path / "run").iterdir())
    assert files == ["state.json", "step-000000019.safetensors"]
    with safe_open(tmp_path / "run" / files[1], "pt") as stored:
        names = set(stored.keys())
    assert not any("frozen" in name for name in names)
    assert {name.split("/")[0] for name in names} == {"model", "best", "optimizer"}
    discard_resume(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    discard_resume(tmp_path / "run")


def test_a_full_disk_stops_training_and_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = train(Noisy(), wave(), BORDERS, SETTINGS, seed=0)
    plain, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        plain(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"step-000000014\.safetensors: No space left"):
        train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.undo()
    result = train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    assert result.resumed_from == 7
    same(result, want)


def test_a_killed_process_resumes_to_the_same_bits(tmp_path: Path) -> None:
    # SIGKILL in the middle of a seeded step: nothing of Python runs after it.
    at = int(generator(0, "kill").integers(9, 39))
    script = f"""
        import os, signal, sys
        sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
        from pathlib import Path
        from test_loop import BORDERS, Noisy, SETTINGS, wave
        from wavecore.learn.loop import train
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)
        train(Noisy({at}, die), wave(), BORDERS, SETTINGS, 0, Path({str(tmp_path)!r}), "hash")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    result = train(Noisy(), wave(), BORDERS, SETTINGS, 0, tmp_path, "hash")
    assert result.resumed_from == (at - 1) // 7 * 7
    same(result, train(Noisy(), wave(), BORDERS, SETTINGS, seed=0))


# --- estimates ------------------------------------------------------------------------------------------------------


def test_an_estimate_changes_nothing() -> None:
    model = Noisy()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = torch.random.get_rng_state()
    estimate = estimate_seconds(model, wave(), BORDERS, SETTINGS)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.random.get_rng_state())
    assert estimate.step > 0
    assert estimate.eval_window > 0
    assert estimate.validation_windows == 27
    want = 40 * estimate.step + 8 * 27 * estimate.eval_window
    assert estimate.training(SETTINGS) == pytest.approx(want)
    assert estimate.steps_in(want * 1.001, SETTINGS) == 40


def test_a_model_without_weights_takes_no_training() -> None:
    estimate = estimate_seconds(SeasonalNaive(12, 4, 7), wave(), BORDERS, SETTINGS)
    assert estimate.step == 0
    assert estimate.training(SETTINGS) == 0
    assert estimate.steps_in(60, SETTINGS) == 0
    assert estimate.eval_window > 0


def test_no_other_module_reads_a_clock() -> None:
    rooms = [ROOT / "wavecore" / room for room in ("learn", "model", "series")]
    readers = [
        path.name
        for room in rooms
        for path in room.rglob("*.py")
        if any(word in path.read_text() for word in ("import time", "from time", "datetime.now", "perf_counter"))
    ]
    assert readers == ["estimate.py"]
