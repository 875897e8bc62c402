"""Learners: a Fourier regression that is the ridge regression it says, weights after errors, frozen groups that stay,
the same memory in training and in a session, and work and memory that do not grow."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_session import LIVING, ONLINE, SHAPE, SMALL, H, N, T, forecasts, linear, titan, waves
from torch import Tensor

from wavecore.errors import StorageError, TrainingError
from wavecore.series.normalize import instance_normalize, instance_statistics
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.fourier import Elf, warm_labels
from wavecore.stream.learners import Frozen, Gradient, Titan, batched
from wavecore.stream.memory import MemoryState
from wavecore.stream.run import need_learners
from wavecore.stream.session import Label, Session, Shape
from wavecore.stream.settings import OnlineSettings, StreamSettings


def labels(values: Tensor, origins: range) -> list[Label]:
    seen = torch.ones(H, N, dtype=torch.bool)
    return [Label(o, values[o - T : o], values[o : o + H], seen, None) for o in origins]


def test_the_regression_solved_label_by_label_is_the_ridge_regression() -> None:
    values = waves(120)
    elf = Elf(linear(), T, H, N, ridge=3.0, keep=0.9, warm=0)
    rows, ahead = [], []
    for label in labels(values, range(T, 110)):
        note = elf.forecast(label.x, label.origin)[1]
        elf.learn([label._replace(note=note)])
        x, y = label.x.double(), label.y.double()
        mean, std = instance_statistics(x, axis=0)
        rows.append(torch.fft.rfft(instance_normalize(x, mean, std, axis=0), dim=0)[: elf.known].T)
        ahead.append(torch.fft.rfft(instance_normalize(y, mean, std, axis=0), dim=0)[: elf.asked].T)
    x, y = (torch.stack([c.real, c.imag], dim=2).flatten(1) for c in (torch.cat(rows), torch.cat(ahead)))
    expected = torch.linalg.solve(x.T @ x + 3.0 * torch.eye(2 * elf.known), x.T @ y)
    torch.testing.assert_close(elf.inverse @ elf.cross, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("horizon", [1, 8])
def test_the_regression_finds_what_is_a_linear_map_of_the_window(horizon: int) -> None:
    """Its level too, which has no imaginary part: a map of complex frequencies would miss it."""
    draw = torch.Generator().manual_seed(1)
    series = torch.zeros(900, 1, dtype=torch.float64)
    for t in range(2, len(series)):
        series[t] = 1.6 * series[t - 1] - 0.65 * series[t - 2] + torch.randn(1, generator=draw, dtype=torch.float64) / 9
    elf = Elf(torch.nn.Identity(), T, horizon, 1, ridge=1e-3, keep=1.0)
    for origin in range(T, 800):
        elf._solve(series[origin - T : origin], series[origin : origin + horizon])
    wrong, mean = [], []
    for origin in range(800, 900 - horizon):
        window, truth = series[origin - T : origin], series[origin : origin + horizon]
        wrong.append((elf._linear(window) - truth)[0].square())
        mean.append((window.mean(dim=0) - truth[0]).square())
    # The noise of one step is 1/81.
    assert float(torch.stack(wrong).mean()) < 1.5 / 81 < 0.25 * float(torch.stack(mean).mean())


def test_a_regression_of_another_size_is_not_gone_on_with() -> None:
    elf = Elf(linear(), T, H, N)
    state = elf.state()
    for wrong in (
        {**state, "inverse": state["inverse"][:2]},
        {**state, "latest": state["latest"][:, :, :1]},
        {k: t for k, t in state.items() if k != "cross"},
        {**state, "more": state["cross"]},
    ):
        with pytest.raises(StorageError, match=r"state: the weight '(inverse|latest|cross|more)'"):
            elf.restore(wrong)
    elf.restore(state)


def test_a_regression_waits_for_as_many_labels_as_it_has_unknowns() -> None:
    assert [warm_labels(window) for window in (T, 200, 512)] == [200, 200, 512]
    long, online = Shape(512, H, ("a",)), OnlineSettings(learners=("frozen", "elf"))
    forecaster = torch.nn.Identity()
    assert need_learners(forecaster, online, long, 512 + H) == ("frozen",)
    assert need_learners(forecaster, online, long, 512 + H + 1) == ("frozen", "elf")


def test_the_regression_holds_over_thousands_of_labels() -> None:
    """Rounding, left to grow, had no finite value after 7,000 hours of ETTh1; after 1,500 it was off by 1e-5."""
    window, horizon, channels = 96, 24, 7
    draw = torch.Generator().manual_seed(0)
    values = torch.randn((3000 + window + horizon, channels), generator=draw, dtype=torch.float64)
    values[torch.arange(len(values)) % 50 > 0] /= 1000  # a spike every fifty rows
    elf = Elf(torch.nn.Identity(), window, horizon, channels)
    total = 20.0 * torch.eye(2 * elf.known, dtype=torch.float64)
    for origin in range(window, window + 3000):
        x, y = values[origin - window : origin], values[origin : origin + horizon]
        elf._solve(x, y)
        mean, std = instance_statistics(x, axis=0)
        rows = elf._spectrum(instance_normalize(x, mean, std, axis=0), elf.known)
        total += rows.T @ rows
    torch.testing.assert_close(elf.inverse, torch.linalg.inv(total), rtol=1e-9, atol=1e-12)


class WrittenOut:
    """ELF as its docstring has it, in numpy: a direct solution of all labels so far, no state but lists."""

    def __init__(self, ridge: float, keep: float, rate: float, recent: int, warm: int) -> None:
        self.ridge, self.rate, self.recent, self.warm = ridge, rate, recent, warm
        self.known, self.asked = (round(keep * (n // 2 + 1)) for n in (T, H))
        self.rows: list[np.ndarray] = []
        self.ahead: list[np.ndarray] = []
        self.single: list[np.ndarray] = []  # errors of (frozen, linear), [2, N] a label
        self.mixed: list[np.ndarray] = []  # errors of what slow and fast weights would have forecast

    def spectrum(self, x: np.ndarray, count: int) -> np.ndarray:
        found = np.fft.rfft(x, axis=0)[:count].T
        return np.stack([found.real, found.imag], axis=2).reshape(len(found), -1)

    def normed(self, errors: list[np.ndarray]) -> np.ndarray:
        weight = np.exp(-self.rate * np.sum(errors, axis=0)) if errors else np.ones((2, N))
        return weight / weight.sum(axis=0)

    def forecast(self, x: np.ndarray, frozen: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        if len(self.rows) < self.warm:
            return frozen, None
        mean, std = x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-5)
        linear = np.tile(mean, (H, 1))
        if self.rows:
            a, b = np.concatenate(self.rows), np.concatenate(self.ahead)
            solved = np.linalg.solve(a.T @ a + self.ridge * np.eye(a.shape[1]), a.T @ b)
            parts = (self.spectrum((x - mean) / std, self.known) @ solved).reshape(N, self.asked, 2)
            linear = np.fft.irfft(parts[..., 0] + 1j * parts[..., 1], n=H, axis=1).T * std + mean
        both = np.stack([frozen, linear])
        slow, fast = self.normed(self.single), self.normed(self.single[-self.recent :])
        share = self.normed(self.mixed)
        made = [(w[:, None] * both).sum(axis=0) for w in (slow, fast)]
        return share[0] * made[0] + share[1] * made[1], (*both, *made)

    def learn(self, x: np.ndarray, y: np.ndarray, note: tuple[np.ndarray, ...] | None) -> None:
        if note is not None:
            wrong = np.stack([np.square(made - y).mean(axis=0) for made in note])
            self.single.append(wrong[:2])
            self.mixed.append(wrong[2:])
        mean, std = x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-5)
        self.rows.append(self.spectrum((x - mean) / std, self.known))
        self.ahead.append(self.spectrum((y - mean) / std, self.asked))


def test_elf_is_what_is_written_of_it() -> None:
    """Regression, slow and fast weights, and what weighs these two, label by label, over a change of regime that the
    fast ones see first."""
    ridge, keep, rate, recent, warm = 3.0, 0.9, 0.5, 5, 4
    values = waves(140)
    values[80:] = 3 + 2 * values[80:].flip(0)
    elf = Elf(linear(), T, H, N, ridge=ridge, keep=keep, rate=rate, recent=recent, warm=warm)
    written, frozen = WrittenOut(ridge, keep, rate, recent, warm), Frozen(linear(), H)
    apart, merged = [], []
    for (label,) in (labels(values, range(o, o + 1)) for o in range(T, 136)):
        x, y = (part.double().numpy() for part in (label.x, label.y))
        own, noted = elf.forecast(label.x, label.origin)
        expected, note = written.forecast(x, frozen.forecast(label.x, label.origin)[0].double().numpy())
        np.testing.assert_allclose(own.numpy(), expected, rtol=1e-5, atol=1e-5)
        if noted is not None:
            assert note is not None
            _, slow, fast = noted
            np.testing.assert_allclose(slow.numpy(), written.normed(written.single), rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(fast.numpy(), written.normed(written.single[-recent:]), rtol=1e-6, atol=1e-8)
            apart.append(float((slow - fast).abs().max()))
            merged.append(float(np.abs(written.normed(written.mixed) - 0.5).max()))
        elf.learn([label._replace(note=noted)])
        written.learn(x, y, note)
    # Else a pair that is one pair, or two that always count alike, would have passed.
    assert max(apart) > 0.2
    assert max(merged) > 0.2


def test_the_better_of_the_two_gets_the_weight() -> None:
    """A frozen forecaster that is far off loses its weight to the regression, in each channel by itself."""
    values = waves(200)

    class Far(torch.nn.Module):
        def forward(self, batch: object) -> Tensor:
            made = torch.zeros(1, H, N)
            made[..., 0] = 9.0
            return made

    elf = Elf(Far(), T, H, N, warm=0)
    found = Session(elf, SHAPE, OnlineSettings())
    forecasts(found, values)
    slow, fast = elf._weights()
    for weights in (slow, fast):
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(N).double())
        assert float(weights[0, 0]) < 1e-6
        assert float(weights[0, 1]) > float(weights[0, 0])


def test_without_errors_both_count_alike_and_without_labels_the_regression_says_the_mean() -> None:
    elf, frozen, x = Elf(linear(), T, H, N, warm=0), Frozen(linear(), H), waves(T)
    expected = (frozen.forecast(x, T)[0] + x.mean(dim=0)) / 2
    torch.testing.assert_close(elf.forecast(x, T)[0], expected)


def test_the_frozen_forecaster_stands_alone_until_the_regression_is_warm() -> None:
    values, warm = waves(80), 12
    elf = Elf(linear(), T, H, N, warm=warm)
    one = forecasts(Session(elf, SHAPE, OnlineSettings()), values)
    other = forecasts(Session(Frozen(linear(), H), SHAPE, OnlineSettings()), values)
    # The first label is known with the H-th forecast after the first, and each row brings one more.
    alone = H + warm - 1
    assert all(torch.equal(a, b) for a, b in zip(one[:alone], other[:alone], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one[alone:], other[alone:], strict=True))
    # Weights know the errors of forecasts of both alone.
    assert len(elf.latest) == len(one) - alone - H


def test_a_group_without_speed_stays() -> None:
    model = titan()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    forecasts(Session(Titan(model, ONLINE), SHAPE, ONLINE), waves(60))
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in model.named_parameters()}
    assert moved.pop("persistent") == 0
    assert all(moved.values())
    tuned, slow = titan(), replace(ONLINE, persistent_lr_scale=0.01)
    forecasts(Session(Titan(tuned, slow), SHAPE, slow), waves(60))
    assert not torch.equal(tuned.persistent, before["persistent"])  # type: ignore[arg-type]


def test_adaptation_off_leaves_all_weights() -> None:
    model = titan()
    before = [p.detach().clone() for p in model.parameters()]
    forecasts(Session(Titan(model, ONLINE, adapt=False), SHAPE, ONLINE), waves(60))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("settings", [SMALL, LIVING])
def test_a_session_and_the_training_path_see_the_same(settings: StreamSettings) -> None:
    """The same windows, a session's one by one and in one batch as training reads them: memories, forecasts and losses.

    With memories that live, the batch meets those that the session noted; each of these follows from the one before.
    """
    model, values = titan(settings).eval(), waves(80)
    learner = Titan(model, ONLINE, adapt=False)
    session, made, notes = Session(learner, SHAPE, ONLINE), {}, {}
    for i, row in enumerate(values):
        if (y := session.push(row)) is not None:
            made[i + 1], notes[i + 1] = y, session.pending.notes[i + 1]
    origins, living = range(T, 80 - H + 1), settings.memory.life == "stream"
    batch = batched(labels(values, origins))
    with torch.no_grad():
        states = model.start(len(origins))
        if living:
            met = [MemoryState(*notes[o]) for o in origins]
            states = MemoryState(*(torch.cat(parts) for parts in zip(*met, strict=True)))
        reading = model.read(batch.x, states)
        together = torch.stack([made[o] for o in origins])
        torch.testing.assert_close(reading.forecast, together, rtol=1e-5, atol=1e-6)
        if not living:
            # What training descends on, and what a session learns from.
            mine = learner.loss(labels(values, origins))
            torch.testing.assert_close(model.objective(batch)["loss"], mine)
            torch.testing.assert_close(model(batch), together, rtol=1e-5, atol=1e-6)
            return
    # The memory after one chunk more is the one that is met a chunk of rows later, and until then the same.
    step = model.chunk_rows()
    for i, origin in enumerate(origins):
        at = origin + step
        if at in origins and (origin - T) % step == 0:
            for after, later in zip(reading.state, notes[at], strict=True):
                torch.testing.assert_close(after[i * N : (i + 1) * N], later, rtol=1e-5, atol=1e-6)
        begun = origin - (origin - T) % step
        assert all(torch.equal(a, b) for a, b in zip(notes[origin], notes[begun], strict=True))
    # Memory counts: another one gives other forecasts.
    assert not torch.allclose(model(batch)[-1], together[-1], atol=1e-5)


def test_input_surprise_is_told_at_once_and_the_error_with_the_label() -> None:
    learner = Titan(titan(), ONLINE)
    session = Session(learner, SHAPE, ONLINE)
    for i, row in enumerate(waves(T + H)):
        session.push(row)
        if i + 1 >= T:
            noted = learner.noted
            assert noted is not None
            assert noted.origin == i + 1
            assert noted.surprise > 0
            assert 0 < noted.gate < 1
            assert noted.norm > 0
            assert learner.error is None or learner.error[0] == i + 1 - H
    assert learner.error is not None


def test_a_loss_that_is_not_finite_is_an_error_and_leaves_the_weights() -> None:
    learner = Gradient(linear(), H, OnlineSettings())
    before = [p.detach().clone() for p in learner.learned]
    (label,) = labels(waves(T + H), range(T, T + 1))
    with pytest.raises(TrainingError, match="row 16: the loss is"):
        learner.learn([label._replace(y=label.y * float("inf"))])
    assert all(torch.equal(p, old) for p, old in zip(learner.learned, before, strict=True))


def live() -> tuple[int, int]:
    """Tensors that are reachable, and their bytes."""
    gc.collect()
    found = [o for o in gc.get_objects() if isinstance(o, Tensor)]
    return len(found), sum(o.untyped_storage().nbytes() for o in found)


def graph(tensor: Tensor) -> int:
    """Nodes of the graph behind a tensor."""
    seen, stack = set(), [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += [following for following, _ in node.next_functions]
    return len(seen)


# A chunk of one row: each row that is pushed is a slice that the memory takes in.
BRIEF = Shape(4, 2, ("a", "b"))
BY_ROW = replace(LIVING, patch=1, memory=replace(LIVING.memory, chunk=1))


class Careless(Titan):
    """A learner that carries the graph along with the memory."""

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        carried = self._next or self.model.start(1)
        reading = self.model.read(x[None], carried)
        self._carried, self._next = carried, reading.state
        return reading.forecast[0].detach(), tuple(part.detach() for part in carried)


def growth(learner_of: type[Titan], at: tuple[int, ...], adapt: bool) -> list[tuple[int, int, int]]:
    """Live tensors, their bytes and the nodes of the graph behind the memory, after as many slices as `at` says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TitanStream(BRIEF.window, BRIEF.horizon, N, BY_ROW)
    assert model.chunk_rows() == 1
    learner = learner_of(model, ONLINE, adapt=adapt)
    # Eight labels to a step, since what is to be counted are slices; `at` is in step with them.
    session, seen = Session(learner, BRIEF, replace(ONLINE, every=8)), []
    for i, row in enumerate(waves(at[-1] + BRIEF.window)):
        session.push(row)
        if i + 1 - BRIEF.window in at:
            assert learner._carried is not None
            seen.append((*live(), graph(learner._carried.weight)))
    return seen


def test_tensors_bytes_and_graph_stay_constant_over_thousands_of_slices() -> None:
    counts, sizes, nodes = zip(*growth(Titan, (200, 1704, 3200), adapt=True), strict=True)
    # The session's buffer and its pending labels breathe; a single number per slice would be 12,000 bytes.
    assert max(counts) - min(counts) <= 40
    assert max(sizes) - min(sizes) <= 1000
    assert set(nodes) == {0}


def test_a_learner_that_does_not_detach_grows_in_all_three() -> None:
    first, second, third = zip(*growth(Careless, (24, 48, 72), adapt=False), strict=True)
    for seen in (first, second, third):
        # As much with each stretch of slices, no less with the later one.
        assert seen[1] > seen[0]
        assert seen[2] - seen[1] >= 0.9 * (seen[1] - seen[0]) > 20
