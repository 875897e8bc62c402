"""What one pass over windows gives."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from wavecore.stream.memory import MemoryState


class Written(NamedTuple):
    """What happened while a window was written, of each series, [S].

    Attributes:
        associative: loss of each chunk before it was written, the mean over chunks.
        orthogonality: how much keys of one chunk point the same way, the mean over chunks.
        gate: share that was forgotten with each chunk, the mean.
        surprise: associative loss of the newest chunk; known at once, before any label.
        norm: |M| at the end of the window.
    """

    associative: Tensor
    orthogonality: Tensor
    gate: Tensor
    surprise: Tensor
    norm: Tensor


class Reading(NamedTuple):
    """One pass over windows.

    Attributes:
        forecast: [B, H, N].
        state: of the memory when the first chunk of the window was written: with it begins the window one chunk on.
        written: see Written.
        pooling: weight of each token in the pooling, [S, L].
    """

    forecast: Tensor
    state: MemoryState
    written: Written
    pooling: Tensor
