"""The training loss with its error per wavelet scale, and the curriculum that moves its weights (W4).

    loss = time + low · E(A_J) + high · (E(D_J) + … + E(D_1))

where E of a band is the energy of the error in it per horizon step: the squared coefficients of forecast less truth
(the transform is linear, so that is the squared difference between their coefficients), summed, over H. With an
orthogonal wavelet all of them sum to the squared error in time, so a weight says by how much more a band counts than in
the time-domain loss alone. What is slow is learned first: its weight begins large and decreases, that of what is fast
begins small and grows, one move at a time, and only when validation has improved (Bengio et al., "Curriculum Learning",
ICML 2009).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wavecore.config import FeatureSettings, TrainSettings
from wavecore.errors import SettingsError
from wavecore.learn.losses import loss_of
from wavecore.learn.settings import WaveletLossSettings
from wavecore.wavelet.operators import Analysis
from wavecore.wavelet.transform import check, max_levels


class Curriculum(NamedTuple):
    """Where the weights are; passed in and out, and part of every resume checkpoint.

    Attributes:
        best: lowest error that a look has found; None before the first.
        moved: steps after which a move was made.
    """

    best: float | None = None
    moved: tuple[int, ...] = ()

    @property
    def moves(self) -> int:
        """How many were made."""
        return len(self.moved)

    def path(self, settings: WaveletLossSettings) -> list[list[float]]:
        """[step, low, high] from step 0 on, one row per change."""
        return [[step, *settings.weights(i)] for i, step in enumerate((0, *self.moved))]

    def after(self, error: float, step: int, settings: WaveletLossSettings) -> Curriculum:
        """The state after a look at `step` that found `error`: one move further where that is the lowest so far."""
        if self.best is not None and error >= self.best:
            return self
        # The first look has nothing to be better than.
        moving = self.best is not None and self.moves < settings.moves
        return Curriculum(error, (*self.moved, step) if moving else self.moved)


class Loss(nn.Module):
    """The loss of a training step.

    Args:
        settings: of the run.
        horizon: H.

    Raises:
        SettingsError: an unknown wavelet or mode, or a horizon too short for one level.
    """

    def __init__(self, settings: TrainSettings, horizon: int) -> None:
        super().__init__()
        self.time = loss_of(settings.loss)
        self.settings = settings.wavelet_loss
        self.analysis: Analysis | None = None
        if not self.settings.enabled:
            return
        chosen = self.settings
        levels = min(chosen.levels, max_levels(chosen.wavelet, horizon))
        if levels < 1:
            raise SettingsError(
                f"train.wavelet_loss: a horizon of {horizon} steps is too short for one level of {chosen.wavelet}",
                "choose a shorter wavelet such as haar, or a stage without `wavelet_loss`",
            )
        features = FeatureSettings(wavelet=chosen.wavelet, mode=chosen.mode, levels=levels)
        check(chosen.wavelet, chosen.mode, levels, horizon)
        self.analysis = Analysis(features, horizon)

    def forward(self, forecast: Tensor, target: Tensor, mask: Tensor, moves: int = 0) -> Tensor:
        """Forecast, target [B, H, N] and which targets were observed → a scalar."""
        found = self.time(forecast, target, mask)
        if self.analysis is None:
            return found
        low, high = self.settings.weights(moves)
        slow, *fast = band_errors(self.analysis, forecast, target, mask).unbind()
        # A weight of zero leaves the loss what it is, to the bit.
        if low:
            found = found + low * slow
        if high:
            found = found + high * torch.stack(fast).sum()
        return found


def band_errors(analysis: Analysis, forecast: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Energy of the error per band and horizon step, slow to fast: [B, H, N] each → [J+1].

    A target that was not observed has no error; steps are those that were observed.
    """
    # Like `masked_mean`, this never hides a forecast that is not finite.
    error = ((forecast - target) * mask).transpose(1, 2)
    return torch.stack([part.square().sum() for part in analysis(error).values()]) / mask.sum().clamp(min=1)
