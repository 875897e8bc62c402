"""The memory: its update is the gradient it says, in any cutting of the stream, clipped alike with and without a graph;
what it gives is the naive product, token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wavecore.stream.memory import MemoryState, clipped, feature, read, started, surprise, update
from wavecore.stream.settings import MemorySettings

S, C, D = 3, 4, 5
MAP, LINEAR = MemorySettings(), MemorySettings(retrieval="linear_attention")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some() -> MemoryState:
    return MemoryState(drawn(S, D, D), drawn(S, D, D, seed=1), drawn(S, D, seed=2).abs())


def test_the_surprise_is_the_gradient_of_the_associative_loss() -> None:
    state, k, v = some(), drawn(S, C, D, seed=3), drawn(S, C, D, seed=4)
    weight = state.weight.clone().requires_grad_()
    # |M k − v|², the mean over the chunk, written out.
    loss = sum(((weight[s] @ k[s, c] - v[s, c]) ** 2).sum() / C for s in range(S) for c in range(C))
    (expected,) = torch.autograd.grad(loss, weight)
    found, gradient = surprise(state, k, v)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(found.sum(), loss.detach())


def test_an_update_is_momentum_forgetting_and_a_step() -> None:
    settings = MemorySettings(beta=0.7, eta=0.3, clip=1e9)
    state, k, v, gate = some(), drawn(S, C, D, seed=3), drawn(S, C, D, seed=4), torch.tensor([0.0, 0.1, 1.0]).double()
    _, gradient = surprise(state, k, v)
    after, _ = update(state, k, v, gate, settings)
    momentum = 0.7 * state.momentum + (1 - 0.7) * gradient
    torch.testing.assert_close(after.momentum, momentum)
    for s in range(S):
        torch.testing.assert_close(after.weight[s], (1 - gate[s]) * state.weight[s] - 0.3 * momentum[s])


@pytest.mark.parametrize("clip", [10.0, 0.01])
def test_the_momentum_is_clipped_alike_with_and_without_a_graph(clip: float) -> None:
    settings = MemorySettings(clip=clip)
    k, v, gate = 50 * drawn(S, C, D, seed=3), drawn(S, C, D, seed=4), torch.full((S,), 0.1).double()
    with torch.no_grad():
        plain, _ = update(some(), k, v, gate, settings)
    graph, _ = update(some(), k.requires_grad_(), v, gate, settings)
    assert graph.weight.requires_grad
    for one, other in zip(plain, graph, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=0)
    norms = plain.momentum.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((S,), clip).double())
    # What is short stays as it is.
    short = drawn(S, D, D) * 1e-3
    torch.testing.assert_close(clipped(short, 10.0), short)


@pytest.mark.parametrize("settings", [MAP, LINEAR])
def test_what_is_read_is_a_product_per_token(settings: MemorySettings) -> None:
    state, q = some(), drawn(S, 6, D, seed=5)
    found = read(state, q, settings)
    for s in range(S):
        for t in range(6):
            if settings.retrieval == "map":
                expected = state.weight[s] @ q[s, t]
            else:
                phi = feature(q[s, t])
                expected = state.weight[s] @ phi / (state.normalizer[s] @ phi)
            torch.testing.assert_close(found[s, t], expected)


def test_linear_attention_is_the_weighted_mean_of_all_values_written_and_no_transpose_of_the_map() -> None:
    k, v, q = drawn(1, 3, D, seed=3), drawn(1, 3, D, seed=4), drawn(1, 1, D, seed=5)
    nothing = MemoryState(torch.zeros(1, D, D).double(), torch.zeros(1, D, D).double(), torch.zeros(1, D).double())
    gate = torch.zeros(1).double()
    after, _ = update(nothing, k, v, gate, LINEAR)
    weights = (feature(q[0]) @ feature(k[0]).T)[0]
    torch.testing.assert_close(read(after, q, LINEAR)[0, 0], weights @ v[0] / weights.sum())
    other, _ = update(nothing, k, v, gate, MAP)
    for transposed in (other.weight, other.weight.transpose(1, 2)):
        scale = (transposed * after.weight).sum() / transposed.square().sum()
        assert (scale * transposed - after.weight).norm() > 0.1 * after.weight.norm()


def test_a_memory_learns_what_belongs_to_a_key() -> None:
    """Shown the same pairs again and again, without forgetting, it gives them back."""
    k = torch.linalg.qr(drawn(D, D))[0][None, :4]
    v = drawn(1, 4, D, seed=4)
    state = started(torch.zeros(D, D).double(), 1)
    settings = MemorySettings(eta=0.5, beta=0.5, clip=1e9)
    losses = []
    for _ in range(200):
        state, loss = update(state, k, v, torch.zeros(1).double(), settings)
        losses.append(float(loss))
    assert losses[-1] < 1e-9 * losses[0]
    torch.testing.assert_close(read(state, k, settings), v, rtol=1e-4, atol=1e-4)


def test_without_a_step_nothing_is_written() -> None:
    k, v, gate = drawn(S, C, D, seed=3), drawn(S, C, D, seed=4), torch.rand(S).double()
    after, _ = update(some(), k, v, gate, replace(MAP, eta=0.0))
    assert all(torch.equal(one, other) for one, other in zip(after, some(), strict=True))


def test_series_do_not_see_each_other() -> None:
    k, v, gate = drawn(S, C, D, seed=3), drawn(S, C, D, seed=4), torch.rand(S).double()
    together, _ = update(some(), k, v, gate, MAP)
    order = [2, 0, 1]
    turned, _ = update(MemoryState(*(part[order] for part in some())), k[order], v[order], gate[order], MAP)
    for one, other in zip(together, turned, strict=True):
        torch.testing.assert_close(one[order], other)


@pytest.mark.parametrize("key", ["beta: 1.0", "beta: -0.1", "eta: -0.1", "eta: 1.5", "clip: 0.0", "chunk: 0"])
def test_what_cannot_be_is_refused(key: str) -> None:
    name, value = key.split(": ")
    with pytest.raises(ValueError, match=name):
        MemorySettings(**{name: type(getattr(MAP, name))(float(value))})
