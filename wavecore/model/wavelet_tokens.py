"""Wavelet coefficients as tokens beside the patches or in their place (W2).

A band's coefficients, block by block, are what a scale did in a stretch of time. Each block becomes one token: divided
by the size that the band's coefficients usually have, through one linear map for all scales, with an embedding that
says which scale it is.

Letters: M series, T steps, L patches, W wavelet tokens, d = d_model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.model.scales import Scales, names
from wavecore.model.wavelet_settings import TokensSettings
from wavecore.wavelet.operators import Analysis, Packets


class WaveletTokens(nn.Module):
    """Windows as wavelet tokens, and what becomes of the patches beside them.

    Args:
        settings: see TokensSettings.
        scales: of the benchmark.
        window: T.
        patch: length and stride of a patch in steps.
        patches: L.
        width: d_model.
        dropout: share of features dropped in training.

    Attributes:
        bands: names of those that are kept, slow to fast.
        lengths: how many coefficients each of them has.
        scale: [W] int64, which of these a token belongs to; slow to fast, and within a band early to late.
        centre: [W], the middle of the stretch that a token tells of, in steps.
        real: [W, block] bool, False where a band's last block is filled up.

    Raises:
        SettingsError: a decomposition that the window does not allow, or scales whose energy was not measured.
    """

    scale: Tensor
    centre: Tensor
    real: Tensor
    size: Tensor
    covering: Tensor

    def __init__(
        self,
        settings: TokensSettings,
        scales: Scales,
        window: int,
        patch: tuple[int, int],
        patches: int,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.settings = settings
        features = scales.at(settings.levels)
        self.levels = features.levels
        self.operator = Analysis(features, window) if settings.transform == "dwt" else Packets(features, window)
        every, shares = names(settings.transform, features.levels), scales.shares(settings.transform, settings.levels)
        if len(shares) != len(every):
            raise SettingsError(f"energy: {len(shares)} shares for {len(every)} bands", "measure them again")
        self.chosen = [i for i, share in enumerate(shares) if i == 0 or share >= settings.least_share]
        self.bands = tuple(every[i] for i in self.chosen)
        places = [_places(part) for part in self._parts(torch.eye(window, dtype=torch.float64))]
        self.lengths = lengths = [len(place) for place in places]
        block = settings.block
        counts = [math.ceil(n / block) for n in lengths]
        scale = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        centre = torch.cat([torch.stack([part.mean() for part in place.split(block)]) for place in places])
        real = [(torch.arange(k * block) < n).view(k, block) for k, n in zip(counts, lengths, strict=True)]
        # What a coefficient is usually like: the band's share of T, spread over its coefficients.
        usual = [math.sqrt(max(shares[i], 1e-6) * window / n) for i, n in zip(self.chosen, lengths, strict=True)]
        first = torch.tensor([0, *counts[:-1]]).cumsum(dim=0)
        middle = (torch.arange(patches) * patch[1] + patch[0] / 2).double()
        # Per patch and band the block of the coefficient that lies nearest to the patch's middle.
        covering = [
            start + (middle[:, None] - place).abs().argmin(dim=1) // block
            for start, place in zip(first, places, strict=True)
        ]
        for name, constant in (
            ("scale", scale),
            ("centre", centre.float()),
            ("real", torch.cat(real)),
            ("size", torch.tensor(usual)),
            ("covering", torch.stack(covering, dim=1)),
        ):
            self.register_buffer(name, constant, persistent=False)
        self.map = nn.Linear(settings.block, width, bias=False)
        nn.init.kaiming_normal_(self.map.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.scale_embedding = nn.Embedding(len(self.bands), width)
        nn.init.normal_(self.scale_embedding.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)
        if settings.fusion == "mean":
            # A patch begins as half of its mean.
            self.weights = nn.Parameter(torch.tensor([math.log(len(self.bands)), *([0.0] * len(self.bands))]))
        if settings.fusion == "attention":
            self.attend = nn.MultiheadAttention(width, 1, batch_first=True)
            # A patch begins as itself.
            nn.init.zeros_(self.attend.out_proj.weight)

    def __len__(self) -> int:
        """W."""
        return len(self.scale)

    def slower(self, fastest: int) -> Tensor:
        """Which tokens are of a band that is no faster than D_`fastest`: [W] bool."""
        edge = 2.0 ** (1 - fastest)  # the highest frequency of D_j, where 1 is the highest of all
        slow = []
        for name in self.bands:
            place = int(name[1:])
            highest = {"A": 2.0**-place, "D": 2.0 ** (1 - place), "P": (place + 1) * 2.0**-self.levels}[name[0]]
            slow.append(highest <= edge)
        return torch.tensor(slow, device=self.scale.device)[self.scale]

    def _parts(self, series: Tensor) -> list[Tensor]:
        """Coefficients of the bands that are kept, [M, n_band] each."""
        every = self._every(series)
        return [every[i] for i in self.chosen]

    def _every(self, series: Tensor) -> list[Tensor]:
        """Coefficients of all bands, slow to fast."""
        found = self.operator(series)
        return list(found.values()) if isinstance(found, dict) else list(found.unbind(dim=-2))

    def energy(self, series: Tensor) -> Tensor:
        """Normalized series [M, T] → energy of every band, also of those that are left out: [M, bands]."""
        return torch.stack([part.square().sum(dim=-1) for part in self._every(series)], dim=-1)

    def blocks(self, series: Tensor) -> Tensor:
        """Normalized series [M, T] → [M, W, block] coefficients; a band's last block is filled up with its last one."""
        block, found = self.settings.block, []
        for part in self._parts(series):
            short = -part.shape[-1] % block
            found.append(torch.cat([part, part[:, -1:].expand(-1, short)], dim=-1).unflatten(-1, (-1, block)))
        return torch.cat(found, dim=1)

    def forward(self, series: Tensor) -> Tensor:
        """Normalized series [M, T] → tokens [M, W, d]."""
        with torch.autocast(series.device.type, enabled=False):
            blocks = self.blocks(series.float()) / self.size[self.scale, None]
        embedded: Tensor = self.dropout(self.map(blocks) + self.scale_embedding(self.scale))
        return embedded

    def fused(self, patches: Tensor, tokens: Tensor) -> Tensor:
        """Patches [M, L, d] with wavelet tokens [M, W, d] → [M, W + L, d], or [M, L, d] where they become one."""
        if self.settings.fusion == "concatenate":
            return torch.cat([tokens, patches], dim=1)
        if self.settings.fusion == "mean":
            beside = tokens[:, self.covering]
            return torch.einsum(
                "b,mlbd->mld",
                self.weights.softmax(dim=0).to(patches.dtype),
                torch.cat([patches.unsqueeze(2), beside], 2),
            )
        found: Tensor = patches + self.attend(patches, tokens, tokens, need_weights=False)[0]
        return found


def _places(rows: Tensor) -> Tensor:
    """Where in a window each coefficient lies, in steps: the mean place of the steps that it is made of, weighted by
    their squared weights.

    One at an end may be made of steps at both, where the border mode goes round; its place is then counted on beyond
    the end that it belongs to.

    Args:
        rows: [T, n], the coefficients of unit impulses.
    """
    length, count = rows.shape
    angle = 2 * torch.pi * torch.arange(length, dtype=rows.dtype)[:, None] / length
    weight = rows.square()
    found = torch.atan2((weight * angle.sin()).sum(dim=0), (weight * angle.cos()).sum(dim=0)) * length / (2 * torch.pi)
    nominal = (torch.arange(count, dtype=rows.dtype) + 0.5) * length / count
    return nominal + (found - nominal + length / 2) % length - length / 2
