"""The memory: a matrix per series that learns, while it is read, to give the value that belongs to a key.

With keys k and values v of the C tokens of a chunk, [S, C, D], and M [S, D, D] (S series, D width):

    ∇ = gradient by M of (1/C) Σ |M k − v|²  =  (2/C) Σ (M k − v) kᵀ         the surprise
    m ← β m + (1 − β) ∇,  then m ← m · min(1, clip / |m|)                   the momentum
    M ← (1 − g) M − η m                                                     g: what is forgotten

(Behrouz, Zhong and Mirrokni, "Titans: Learning to Memorize at Test Time", arXiv 2501.00663, equations 8 to 14, with
the surprise averaged over a chunk.) It is read as M q, token by token.

The other retrieval, linear attention (Katharopoulos et al., ICML 2020), has a write rule of its own: M ← (1 − g) M +
Σ v φ(k)ᵀ and z ← (1 − g) z + Σ φ(k), read as M φ(q) / (z·φ(q)), φ = elu + 1. There is no surprise in it.

State goes in and comes out; nothing is kept here. Offline and online call the same functions, so the clipping, too, is
the same in both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wavecore.stream.settings import MemorySettings

TINY = 1e-6


class MemoryState(NamedTuple):
    """What a memory knows.

    Attributes:
        weight: M, [S, D, D]: keys along the last axis, values along the one before.
        momentum: m, [S, D, D].
        normalizer: z, [S, D]; of linear attention.
    """

    weight: Tensor
    momentum: Tensor
    normalizer: Tensor

    def detach(self) -> MemoryState:
        """The same state, without the graph it came from."""
        return MemoryState(*(part.detach() for part in self))

    def norms(self) -> Tensor:
        """|M| of each series, [S]."""
        return self.weight.flatten(1).norm(dim=1)


def started(weight: Tensor, series: int) -> MemoryState:
    """The state of `series` memories that begin with `weight` [D, D].

    The normalizer begins with ones, as if a key of ones had been written: what is read of a memory that nothing was
    written to is then finite.
    """
    first = weight.expand(series, -1, -1)
    return MemoryState(first, torch.zeros_like(first), first.new_ones(series, first.shape[-1]))


def feature(x: Tensor) -> Tensor:
    """φ of linear attention: elu + 1, above zero."""
    return F.elu(x) + 1


def surprise(state: MemoryState, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The associative loss of a chunk and its gradient by M: [S], [S, D, D]."""
    wrong = k @ state.weight.transpose(1, 2) - v
    loss = wrong.square().sum(dim=2).mean(dim=1)
    return loss, wrong.transpose(1, 2) @ k * (2 / k.shape[1])


def clipped(momentum: Tensor, most: float) -> Tensor:
    """Each series' momentum [S, D, D], no longer than `most`."""
    norm = momentum.flatten(1).norm(dim=1).clamp(min=TINY)
    return momentum * (most / norm).clamp(max=1)[:, None, None]


def update(
    state: MemoryState, k: Tensor, v: Tensor, gate: Tensor, settings: MemorySettings
) -> tuple[MemoryState, Tensor]:
    """Write a chunk.

    Args:
        state: before.
        k, v: [S, C, D].
        gate: g, [S], what is forgotten.
        settings: see MemorySettings.

    Returns:
        the state after, and the associative loss before [S]; of linear attention that of what it would have read.
    """
    keep = (1 - gate)[:, None, None]
    if settings.retrieval == "linear_attention":
        loss = (read(state, k, settings) - v).square().sum(dim=2).mean(dim=1)
        phi = feature(k)
        weight = keep * state.weight + v.transpose(1, 2) @ phi
        return MemoryState(weight, state.momentum, keep[:, :, 0] * state.normalizer + phi.sum(dim=1)), loss
    loss, gradient = surprise(state, k, v)
    if not settings.eta:
        return state, loss  # nothing is written, and so nothing forgotten
    momentum = clipped(settings.beta * state.momentum + (1 - settings.beta) * gradient, settings.clip)
    return MemoryState(keep * state.weight - settings.eta * momentum, momentum, state.normalizer), loss


def read(state: MemoryState, q: Tensor, settings: MemorySettings) -> Tensor:
    """What the memory gives for queries [S, L, D]: [S, L, D], each token by itself."""
    if settings.retrieval == "map":
        return q @ state.weight.transpose(1, 2)
    phi = feature(q)
    found = phi @ state.weight.transpose(1, 2)
    return found / (phi @ state.normalizer[:, :, None]).clamp(min=TINY)
