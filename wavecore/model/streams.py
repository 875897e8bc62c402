"""Two streams: what is slow and what is fast in a window, reprogrammed apart (W3).

Each stream has a reprogramming layer of its own over its own half of the one set of prototypes; a gate says how much of
each token is slow. The slow series is the window without its fast bands, the fast one what remains, so both sum to it.

Letters: M series, T steps, K tokens, S prototypes, d = d_model, D features of the language model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.model.layers import Reprogramming
from wavecore.model.scales import Scales
from wavecore.model.wavelet_settings import StreamsSettings
from wavecore.wavelet.operators import Components
from wavecore.wavelet.transform import bands


def fastest_slow(settings: StreamsSettings, scales: Scales) -> int:
    """The smallest j of a D_j that counts as slow, J + 1 for A_J alone.

    Raises:
        SettingsError: a band that is not there, or that leaves nothing fast.
    """
    levels = scales.features.levels
    if settings.fastest:
        if not 2 <= settings.fastest <= levels + 1:
            raise SettingsError(
                f"streams.fastest: {settings.fastest}, but a window has the bands {', '.join(bands(levels))}",
                f"set 2 (all but D1 is slow) to {levels + 1} (A{levels} alone), or 0 to choose by energy",
            )
        return settings.fastest
    held, fastest = 0.0, levels + 1
    for place, share in enumerate(scales.shares("dwt", 0)):
        held += share
        fastest = levels + 1 - place
        if held >= settings.slow_share:
            break
    # Something must be fast.
    return max(fastest, 2)


class Streams(nn.Module):
    """The second stream, the gate, and what joins both.

    Args:
        settings: see StreamsSettings.
        scales: of the benchmark.
        window: T.
        width: d_model.
        fast: the reprogramming layer of what is fast; that of what is slow is the model's own.

    Raises:
        SettingsError: see `fastest_slow`.
    """

    def __init__(self, settings: StreamsSettings, scales: Scales, window: int, width: int, fast: Reprogramming) -> None:
        super().__init__()
        self.settings = settings
        self.fastest, self.levels = fastest_slow(settings, scales), scales.features.levels
        self.components = Components(scales.features, window)
        self.fast = fast
        self.gate: nn.Linear | None = None
        if settings.gate == "learned":
            self.gate = nn.Linear(2 * width, 1)
            # Both streams begin with an equal say.
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def split(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized series [M, T] → what is slow and what is fast in them, [M, T] each."""
        with torch.autocast(series.device.type, enabled=False):
            # A_J, D_J … down to the fastest band that is slow.
            slow = self.components(series.float())[:, : self.levels + 2 - self.fastest].sum(dim=1)
        return slow, series - slow

    def subsets(self, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """The prototypes [S, D] of the slow and of the fast stream: every other one, or all."""
        if not self.settings.subsets:
            return prototypes, prototypes
        return prototypes[0::2], prototypes[1::2]

    def share(self, slow: Tensor, fast: Tensor, slow_cut: Tensor, fast_cut: Tensor) -> Tensor:
        """How much of each patch is slow, [M, L, 1] between 0 and 1.

        Args:
            slow, fast: [M, L, d] embeddings.
            slow_cut, fast_cut: [M, L, P] patches.
        """
        if self.gate is not None:
            found: Tensor = self.gate(torch.cat([slow, fast], dim=-1)).sigmoid()
            return found
        low, high = (cut.square().sum(dim=-1, keepdim=True) for cut in (slow_cut, fast_cut))
        total = low + high
        # Where nothing moves neither is more.
        return torch.where(total > 0, low / total.clamp_min(1e-12), torch.full_like(total, 0.5))
