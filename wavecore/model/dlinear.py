"""DLinear: trend and remainder, one linear map each (Zeng et al., "Are Transformers Effective for Time Series
Forecasting?", AAAI 2023, section 4).

The trend is a moving average whose ends repeat the first and last value, the remainder is what is left of the window.
Each is mapped from T to H steps by one affine map; the forecast is their sum. The maps are shared by all channels, or
one per channel (`individual`). There is no instance normalization in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavecore.model.groups import ParameterGroup
from wavecore.series.windows import Batch


@dataclass(frozen=True)
class DLinearSettings:
    """How DLinear is built.

    Attributes:
        kernel: length of the moving average in steps, odd.
        individual: one pair of maps per channel instead of one for all.
        start: weights at the start. `mean`: 1/T each, so that trend and remainder start as the window's mean; the
            paper's code names it for weights that can be read, and directions of the input that carry no signal then
            keep no noise. `random`: uniform in ±1/√T, that code's default.
    """

    kernel: int = 25
    individual: bool = False
    start: Literal["mean", "random"] = "mean"

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel: {self.kernel} is not an odd number of steps")


def moving_average(x: Tensor, kernel: int) -> Tensor:
    """Centred moving average along the last axis, the ends continued by the first and last value.

    Args:
        x: [..., T].
        kernel: odd number of steps.

    Returns:
        [..., T].
    """
    flat = x.reshape(-1, 1, x.shape[-1])
    padded = F.pad(flat, (kernel // 2, kernel // 2), mode="replicate")
    return F.avg_pool1d(padded, kernel, stride=1).reshape(x.shape)


class TimeMap(nn.Module):
    """An affine map along time, shared by the channels or one for each.

    Args:
        window, horizon: T and H.
        maps: None for one shared map, else the number of channels N.
        start: see DLinearSettings.
    """

    def __init__(self, window: int, horizon: int, maps: int | None, start: Literal["mean", "random"]) -> None:
        super().__init__()
        lead = () if maps is None else (maps,)
        self.weight = nn.Parameter(torch.full((*lead, horizon, window), 1.0 / window))
        self.bias = nn.Parameter(torch.zeros(*lead, horizon))
        if start == "random":
            bound = window**-0.5
            nn.init.uniform_(self.weight, -bound, bound)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, T] → [B, N, H]."""
        if self.weight.ndim == 2:
            return F.linear(x, self.weight, self.bias)
        return torch.einsum("bnt,nht->bnh", x, self.weight) + self.bias


class DLinear(nn.Module):
    """Forecast = map of the trend + map of the remainder.

    Args:
        window, horizon: T and H.
        channels: N; used only where each channel has maps of its own.
        settings: see DLinearSettings.
    """

    def __init__(self, window: int, horizon: int, channels: int, settings: DLinearSettings) -> None:
        super().__init__()
        self.kernel = settings.kernel
        maps = channels if settings.individual else None
        self.trend = TimeMap(window, horizon, maps, settings.start)
        self.remainder = TimeMap(window, horizon, maps, settings.start)

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, N] → [B, H, N]."""
        x = batch.x.transpose(1, 2)
        trend = moving_average(x, self.kernel)
        return (self.trend(trend) + self.remainder(x - trend)).transpose(1, 2)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """The two maps, at the same speed."""
        return (
            ParameterGroup("trend", tuple(self.trend.parameters())),
            ParameterGroup("remainder", tuple(self.remainder.parameters())),
        )
