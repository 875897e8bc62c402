"""A linear regression that is found in closed form (`wavecore.learn.least_squares`): alone, and to average with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavecore.errors import TrainingError
from wavecore.model.groups import ParameterGroup, Part
from wavecore.series.windows import Batch


class Regression(nn.Module):
    """An affine map of the window as it is, found after training and none until then.

    Args:
        window, horizon: T and H.

    Attributes:
        weight, bias: [H, T], [H].
        known: whether they were found.
    """

    weight: Tensor
    bias: Tensor
    known: Tensor

    def __init__(self, window: int, horizon: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(horizon, window))
        self.register_buffer("bias", torch.zeros(horizon))
        self.register_buffer("known", torch.tensor(False))

    def become(self, weight: Tensor, bias: Tensor) -> None:
        """Take what was found, [H, T] and [H]."""
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.known.fill_(True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, N] → [B, H, N]."""
        return F.linear(x.transpose(1, 2), self.weight, self.bias).transpose(1, 2)

    def weight_part(self) -> Part:
        """Its weights, all of them learned."""
        return Part("linear regression", self.weight.numel() + self.bias.numel(), 0)


class Ridge(nn.Module):
    """The regression as a forecaster of its own.

    Args:
        window, horizon: T and H.
    """

    def __init__(self, window: int, horizon: int) -> None:
        super().__init__()
        self.linear = Regression(window, horizon)

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, N] → [B, H, N].

        Raises:
            TrainingError: the regression was not found yet.
        """
        if not self.linear.known:
            raise TrainingError("the regression has no weights yet", "find them with wavecore.learn.finishing")
        found: Tensor = self.linear(batch.x)
        return found

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """None: nothing is learned step by step."""
        return ()

    def weight_parts(self) -> tuple[Part, ...]:
        """The regression's weights."""
        return (self.linear.weight_part(),)
