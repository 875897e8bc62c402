"""The seasonal naive forecast: what any model must beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.model.groups import ParameterGroup
from wavecore.series.windows import Batch


class SeasonalNaive(nn.Module):
    """Repeats the last season of the window: ŷ[h] = x[T - m + (h mod m)], h = 0 … H-1, for a season of m steps.

    A horizon longer than the season repeats it. There are no weights.

    Args:
        window: T.
        horizon: H.
        season: m in steps, at most T; 1 repeats the last value.

    Raises:
        SettingsError: the window does not hold a whole season.
    """

    def __init__(self, window: int, horizon: int, season: int) -> None:
        super().__init__()
        if not 1 <= season <= window:
            raise SettingsError(
                f"season: {season} steps do not lie within a window of {window}",
                f"set `season` in the dataset's YAML between 1 and {window}, or a longer `window` in the benchmark's",
            )
        steps = window - season + torch.arange(horizon) % season
        self.register_buffer("steps", steps, persistent=False)
        self.steps: Tensor

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, N] → [B, H, N]."""
        return batch.x[:, self.steps]

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """None: nothing is learned."""
        return ()
