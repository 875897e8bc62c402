"""Titan-Stream: sizes of the heads, what learns through the memory, no dependence on the batch, chunks the same as
token by token, three losses that each move weights, and groups that hold every weight once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.model.groups import declared
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.objective import losses_of
from wavecore.stream.pooling import AttentionPooling, Head
from wavecore.stream.settings import HeadSettings, LossSettings, MemorySettings, OnlineSettings, StreamSettings

T, H, N = 24, 6, 3
SMALL = StreamSettings(d_model=8, heads=2, patch=2, persistent=2, memory=MemorySettings(chunk=3))


def made(settings: StreamSettings = SMALL, seed: int = 0) -> TitanStream:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TitanStream(T, H, N, settings).eval()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def memory(**changed: Any) -> StreamSettings:
    return replace(SMALL, memory=replace(SMALL.memory, **changed))


VARIANTS = {
    "map": SMALL,
    "linear attention": memory(retrieval="linear_attention"),
    "joint": replace(SMALL, channels="joint"),
    "mean": replace(SMALL, head=HeadSettings(pooling="mean")),
    "last_k": replace(SMALL, head=HeadSettings(pooling="last_k", last_k=2)),
    "flatten": replace(SMALL, head=HeadSettings(pooling="flatten")),
    "first order": memory(high_order=False),
    "bounded": memory(chunks=1),
    "checkpointing": memory(checkpointing=True),
    "no persistent": replace(SMALL, persistent=0),
    "no skip": replace(SMALL, skip="none"),
    "uneven chunks": memory(chunk=5),
}


def weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_forecasts_and_learns(name: str) -> None:
    model = made(VARIANTS[name]).train()
    x, y = drawn(2, T, N), drawn(2, H, N, seed=1)
    reading = model.read(x, model.start(2))
    assert reading.forecast.shape == (2, H, N)
    losses_of(reading, y, torch.ones_like(y, dtype=torch.bool), LossSettings()).total.backward()
    first_order = not model.settings.memory.high_order
    silent = {n for n, p in model.named_parameters() if p.grad is None}
    # Without a gradient through the update nothing tells the gate what to forget.
    assert silent == ({"gate.weight", "gate.bias"} if first_order else set())


def test_a_head_has_the_weights_it_says() -> None:
    """D = 256, 512 tokens, 96 × 7 values ahead."""
    outputs = 96 * 7
    attention = Head(512, 256, 8, outputs, HeadSettings())
    assert weights(attention) == 739_744
    assert isinstance(attention.pooling, AttentionPooling)
    assert 0.01 < float(attention.pooling.query.detach().std()) < 0.03
    assert weights(Head(512, 256, 8, outputs, HeadSettings(pooling="mean"))) == 172_704
    with pytest.raises(SettingsError, match="flatten of 512 tokens of width 256 needs 67 million"):
        Head(512, 256, 8, outputs, HeadSettings(pooling="flatten"))
    with pytest.raises(SettingsError, match="202 million"):
        Head(512, 256, 8, outputs, HeadSettings(pooling="flatten", forecast_hidden_dim=1536))
    with torch.device("meta"):
        big = Head(512, 256, 8, outputs, HeadSettings(pooling="flatten", forecast_hidden_dim=1536, limit=300))
    # 201 million of them between the tokens and the hidden layer.
    assert weights(big.out[0]) == 512 * 256 * 1536 + 1536  # type: ignore[index]


@pytest.mark.parametrize("name", ["map", "linear attention", "joint"])
def test_a_forecast_depends_neither_on_the_batch_nor_on_its_order(name: str) -> None:
    model, x = made(VARIANTS[name]), drawn(5, T, N)
    together = model.read(x, model.start(5)).forecast
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(model.read(x[order], model.start(5)).forecast, together[order])
    for i in range(5):
        torch.testing.assert_close(model.read(x[i : i + 1], model.start(1)).forecast[0], together[i])


def heard(gradient: Tensor | None) -> bool:
    return gradient is not None and float(gradient.abs().sum()) > 0


def test_gate_and_start_learn_through_the_update_with_high_order_alone() -> None:
    """What is read in the second chunk went through the update after the first."""
    x = drawn(2, T, N)
    grads = {}
    for high_order in (True, False):
        model = made(memory(high_order=high_order))
        h = model._embed(x, x.transpose(1, 2).flatten(end_dim=1)[:, :, None])
        found, _, _ = model._remember(*model._keys(h), h, model.start(2))
        later = found[:, model.settings.memory.chunk :]
        grads[high_order] = torch.autograd.grad(
            later.square().sum(), [model.gate.weight, model.memory_init], allow_unused=True
        )
    assert [heard(g) for g in grads[True]] == [True, True]
    assert [heard(g) for g in grads[False]] == [False, False]


def test_gradients_flow_over_a_bounded_number_of_chunks() -> None:
    x = drawn(2, T, N)
    reached = {}
    for chunks in (1, 2, 8):
        model = made(memory(chunks=chunks))
        h = model._embed(x, x.transpose(1, 2).flatten(end_dim=1)[:, :, None])
        found, _, _ = model._remember(*model._keys(h), h, model.start(2))
        # Chunk by chunk: does the start of the memory hear of what is read there?
        parts = found.split(model.settings.memory.chunk, dim=1)
        grads = [
            torch.autograd.grad(p.sum(), model.memory_init, allow_unused=True, retain_graph=True)[0] for p in parts
        ]
        reached[chunks] = sum(map(heard, grads))
    # The first chunk reads the start itself.
    assert reached == {1: 2, 2: 3, 8: 4}


def test_updates_computed_anew_give_the_same_gradients() -> None:
    x, y = drawn(2, T, N), drawn(2, H, N, seed=1)
    found = []
    for checkpointing in (False, True):
        model = made(memory(checkpointing=checkpointing))
        reading = model.read(x, model.start(2))
        losses = losses_of(reading, y, torch.ones_like(y, dtype=torch.bool), LossSettings())
        found.append(torch.autograd.grad(losses.total, list(model.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["map", "linear attention", "uneven chunks", "clipped"])
def test_chunk_by_chunk_is_token_by_token(name: str) -> None:
    """The memory against one that takes every token by itself, in numpy: readings and states equal to 1e-5.

    Within a chunk of a map surprises are those of the memory before it, and their mean counts; then come momentum,
    clipping and forgetting.
    """
    model, x = made({**VARIANTS, "clipped": memory(clip=0.02)}[name]), drawn(2, T, N)
    chosen = model.settings.memory
    with torch.no_grad():
        model.gate.weight.copy_(drawn(1, 8, seed=2))  # else each gate is the same
        h = model._embed(x, x.transpose(1, 2).flatten(end_dim=1)[:, :, None])
        q, k, v = model._keys(h)
        found, first, written = model._remember(q, k, v, h, model.start(2))
        gates = [torch.sigmoid(model.gate(part.mean(dim=1)))[:, 0].numpy() for part in h.split(chosen.chunk, dim=1)]
    start = model.memory_init.detach().double().numpy()
    for series in range(2 * N):
        keys, values, queries = (t[series].double().numpy() for t in (k, v, q))
        weight, momentum, normalizer = start.copy(), np.zeros_like(start), np.ones(len(start))
        for number, gate in enumerate(float(g[series]) for g in gates):
            tokens = range(number * chosen.chunk, min((number + 1) * chosen.chunk, model.tokens))
            before, below, surprise = weight.copy(), normalizer.copy(), np.zeros_like(weight)
            for nth, i in enumerate(tokens):
                if chosen.retrieval == "map":
                    expected = before @ queries[i]
                    surprise += 2 / len(tokens) * np.outer(before @ keys[i] - values[i], keys[i])
                else:
                    phi, written_as = (np.where(t > 0, t + 1, np.exp(t)) for t in (queries[i], keys[i]))
                    expected = before @ phi / (below @ phi)
                    keep = 1.0 if nth else 1 - gate
                    weight = keep * weight + np.outer(values[i], written_as)
                    normalizer = keep * normalizer + written_as
                np.testing.assert_allclose(found[series, i].numpy(), expected, rtol=1e-5, atol=1e-5)
            if chosen.retrieval == "map":
                momentum = chosen.beta * momentum + (1 - chosen.beta) * surprise
                long = np.linalg.norm(momentum)
                assert (name == "clipped") == (long > chosen.clip)
                momentum *= min(1, chosen.clip / long)
                weight = (1 - gate) * weight - chosen.eta * momentum
            if not number:
                for own, known in zip(first, (weight, momentum, normalizer), strict=True):
                    np.testing.assert_allclose(own[series].numpy(), known, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(float(written.norm[series]), np.linalg.norm(weight), rtol=1e-5)


@pytest.mark.parametrize("name", ["forecast", "associative", "orthogonality"])
def test_each_weight_of_the_loss_changes_gradients(name: str) -> None:
    x, y = drawn(2, T, N), drawn(2, H, N, seed=1)
    found = []
    for factor in (1.0, 3.0):
        model = made()
        reading = model.read(x, model.start(2))
        weight = replace(LossSettings(), **{name: factor * getattr(LossSettings(), name)})
        losses = losses_of(reading, y, torch.ones_like(y, dtype=torch.bool), weight)
        found.append(torch.autograd.grad(losses.total, [model.k.weight])[0])
        assert set(losses.plain()) == {"total", "forecast", "associative", "orthogonality"}
    assert not torch.allclose(*found, rtol=1e-4, atol=0)


def test_targets_that_were_not_observed_count_for_nothing() -> None:
    model, x, y = made(), drawn(2, T, N), drawn(2, H, N, seed=1)
    mask = drawn(2, H, N, seed=2) > 0
    reading = model.read(x, model.start(2))
    one = losses_of(reading, y, mask, LossSettings())
    other = losses_of(reading, torch.where(mask, y, 1e6), mask, LossSettings())
    torch.testing.assert_close(one.total, other.total)
    assert losses_of(reading, y, torch.zeros_like(mask), LossSettings()).forecast.item() == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_is_in_one_group(name: str) -> None:
    model = made(VARIANTS[name])
    groups = declared(model)
    assert sum(g.elements for g in groups) == weights(model)
    names = [g.name for g in groups]
    assert ("persistent" in names) == bool(model.settings.persistent)
    assert ("pooling" in names) == (model.settings.head.pooling == "attention")
    speeds = {g.name: g.learning_rate_scale for g in model.online_groups(OnlineSettings())}
    assert speeds["backbone"] == 0.1
    assert speeds.get("persistent", 0.0) == 0.0
    assert all(speeds[n] == 1.0 for n in names if n not in ("backbone", "persistent"))


def test_a_window_shorter_than_a_chunk_is_refused() -> None:
    with pytest.raises(SettingsError, match="13 tokens, but a window of 24 rows has 12"):
        made(memory(chunk=13))
