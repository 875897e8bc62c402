"""Learners: a Fourier regression that is the ridge regression it says, weights after errors, frozen groups that stay,
the same memory in training and in a session, and work and memory that do not grow."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from test_session import LIVING, ONLINE, SHAPE, SMALL, H, N, T, forecasts, linear, titan, waves
from torch import Tensor

from wavecore.errors import StorageError, TrainingError
from wavecore.series.normalize import instance_normalize, instance_statistics
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.fourier import Elf, warm_labels
from wavecore.stream.learners import Frozen, Gradient, Titan
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
    """The windows of a stretch, one chunk apart, as training reads them at once: the same memories and forecasts."""
    model, values = titan(settings).eval(), waves(80)
    step = model.chunk_rows()
    session, at = Session(Titan(model, ONLINE, adapt=False), SHAPE, ONLINE), {}
    for i, row in enumerate(values):
        y = session.push(row)
        if y is not None:
            at[i + 1] = y
    state = model.start(1)
    with torch.no_grad():
        for origin in range(T, 81, step):
            reading = model.read(values[None, origin - T : origin], state)
            torch.testing.assert_close(reading.forecast[0], at[origin], rtol=1e-5, atol=1e-6)
            if settings.memory.life == "stream":
                state = reading.state
    if settings.memory.life == "stream":
        # What stands still between two chunks is the memory, which another one would show.
        assert not torch.allclose(model.read(values[None, -T:], model.start(1)).forecast[0], at[80], atol=1e-5)


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


def test_tensors_bytes_and_graph_stay_constant_over_thousands_of_slices() -> None:
    learner = Titan(titan(LIVING), ONLINE)
    session, values = Session(learner, SHAPE, ONLINE), waves(3200)
    seen = []
    for i, row in enumerate(values):
        session.push(row)
        if i in (200, 1700, 3199):
            assert learner._carried is not None
            (label,) = labels(values, range(100, 101))
            batch = [label._replace(note=tuple(learner._carried))]
            nodes = graph(learner._read(batch[0].x[None], batch).forecast)
            # The session's buffer breathes by two windows.
            seen.append((*live(), nodes))
    counts, sizes, nodes = zip(*seen, strict=True)
    assert max(counts) - min(counts) <= 8
    assert max(sizes) - min(sizes) <= 3 * T * N * 8
    assert len(set(nodes)) == 1


def test_a_state_that_is_not_detached_grows() -> None:
    """What the test above would see if a session carried the graph along."""

    class Careless(TitanStream):
        def grown(self, values: Tensor, slices: int) -> int:
            state: MemoryState = self.start(1)
            for origin in range(T, T + slices * self.chunk_rows(), self.chunk_rows()):
                state = self.read(values[None, origin - T : origin], state).state
            return graph(state.weight)

    model = Careless(T, H, N, LIVING).eval()
    values = waves(200)
    sizes = [model.grown(values, slices) for slices in (5, 10, 20)]
    assert sizes[1] > 1.5 * sizes[0]
    assert sizes[2] > 1.5 * sizes[1]
