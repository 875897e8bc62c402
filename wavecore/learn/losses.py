"""Losses over the targets that were observed, in train-standardized units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor


def squared(forecast: Tensor, target: Tensor) -> Tensor:
    """Squared error per target, [B, H, N]."""
    return (forecast - target).square()


def absolute(forecast: Tensor, target: Tensor) -> Tensor:
    """Absolute error per target, [B, H, N]."""
    return (forecast - target).abs()


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": squared, "mae": absolute}


def masked_mean(errors: Tensor, mask: Tensor) -> Tensor:
    """Mean of `errors` over the targets where `mask` is True, a scalar; 0 where there is none.

    An error that is not finite is never hidden by the mask: it shows that the forecast is broken.
    """
    return (errors * mask).sum() / mask.sum().clamp(min=1)


def mse(forecast: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over observed targets; all arguments [B, H, N], the result a scalar."""
    return masked_mean(squared(forecast, target), mask)


def mae(forecast: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over observed targets; all arguments [B, H, N], the result a scalar."""
    return masked_mean(absolute(forecast, target), mask)


def loss_of(name: Literal["mse", "mae"]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The training loss called `name` in the settings."""
    return {"mse": mse, "mae": mae}[name]


def masked_sum(name: Literal["mse", "mae"], forecast: Tensor, target: Tensor, mask: Tensor) -> tuple[float, int]:
    """Sum of errors over observed targets in float64, and their number; for means over many batches."""
    errors = ERRORS[name](forecast, target) * mask
    return errors.sum(dtype=torch.float64).item(), int(mask.sum())
