"""What Titan-Stream minimizes, offline and online: three losses, each with a name, a weight and a line in the log."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from wavecore.learn.losses import mse
from wavecore.stream.reading import Reading
from wavecore.stream.settings import LossSettings


class Losses(NamedTuple):
    """Scalars.

    Attributes:
        total: the weighted sum, which is minimized.
        forecast: mean square error of the observed targets.
        associative: what the memory did not know of a chunk before it was written.
        orthogonality: how much keys of a chunk point the same way.
    """

    total: Tensor
    forecast: Tensor
    associative: Tensor
    orthogonality: Tensor

    def plain(self) -> dict[str, float]:
        """Name → value, for logs."""
        return {name: value.item() for name, value in self._asdict().items()}


def losses_of(reading: Reading, y: Tensor, mask: Tensor, weights: LossSettings) -> Losses:
    """The losses of one pass.

    Args:
        reading: of B windows.
        y, mask: [B, H, N], targets and whether they were observed; without one observed target the error is 0.
        weights: see LossSettings.
    """
    forecast = mse(reading.forecast, y, mask)
    associative, orthogonality = reading.written.associative.mean(), reading.written.orthogonality.mean()
    total = weights.forecast * forecast + weights.associative * associative
    return Losses(total + weights.orthogonality * orthogonality, forecast, associative, orthogonality)
