"""Fewer time-series tokens between embedding and reprogramming, by what wavelets say of them (W5).

The rule. The dominant scales of a window are the fewest that hold `dominant` of its energy. A token's score is the
energy per step that these scales have in its stretch: a patch counts all of them, a wavelet token its own, and nothing
where that is not dominant. Scores are in means of their kind, patches and wavelet tokens apart, since they are not the
same measure. The last token always stays, since the forecast begins behind it, and of every scale that has tokens the
highest; then those of the highest scores, of equal ones the later. `entropy` (of a patch over its scales, of a wavelet
token over its coefficients) and `variance` score otherwise and choose alike. Every other token belongs to the nearest
kept one of its own scale. Positions travel with the tokens; prompts are never touched here.

Letters: M series, T steps, K tokens (W wavelet tokens, then L patches), k kept ones, C features of a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wavecore.errors import SettingsError
from wavecore.model.budget import Groups, Reduced, grouped, joined
from wavecore.model.layers import patches
from wavecore.model.scales import Scales
from wavecore.model.wavelet_settings import SparseSettings
from wavecore.model.wavelet_tokens import WaveletTokens
from wavecore.wavelet.operators import Components

# Where windows differ in how many tokens they keep, those of a size are read together: so many sizes there are.
SIZES = 8
# A mean below it is that of a window in which nothing moves.
TINY = 1e-12


class Sparse(nn.Module):
    """What is kept.

    Args:
        settings: see SparseSettings.
        scales: of the benchmark.
        window: T.
        patch: length and stride of a patch in steps.
        count: L.
        wavelets: the wavelet tokens that are read too; None without.

    Raises:
        SettingsError: fewer tokens than always stay, or more than there are.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        settings: SparseSettings,
        scales: Scales,
        window: int,
        patch: tuple[int, int],
        count: int,
        wavelets: WaveletTokens | None,
    ) -> None:
        super().__init__()
        self.settings, self.patch, self.patches = settings, patch, count
        self.components = Components(scales.features, window)
        middle = torch.arange(count) * float(patch[1]) + patch[0] / 2
        own = torch.full((count,), -1)
        # In a tuple: they are a part of the model already, and a module has one place.
        self._wavelets: tuple[WaveletTokens, ...] = ()
        if wavelets is not None and wavelets.settings.fusion in ("concatenate", "instead"):
            self._wavelets = (wavelets,)
        if wavelets is not None and wavelets.settings.fusion == "instead":
            self.patches, middle, own = 0, wavelets.centre, wavelets.scale
        elif wavelets is not None and wavelets.settings.fusion == "concatenate":
            middle, own = torch.cat([wavelets.centre, middle]), torch.cat([wavelets.scale, own])
        self.register_buffer("centre", middle, persistent=False)
        self.register_buffer("scale", own, persistent=False)
        total = len(middle)
        # The last token, and one of every scale.
        least = 1 + len(set(own.tolist()) - {int(own[-1])})
        kept = settings.count if settings.keep == "count" else total if settings.keep == "threshold" else self.most
        if kept > total:
            raise SettingsError(f"sparse.count: {kept} tokens, but a window has {total}", f"set it to {total} or less")
        if kept < least:
            name = "count" if settings.keep == "count" else "share"
            wanted = f"{least}" if name == "count" else f"{least / total:.4f}"
            raise SettingsError(
                f"sparse.{name}: {kept} of {total} tokens, but {least} always stay (the last, and one of every scale)",
                f"set it to {wanted} or more",
            )

    @property
    def most(self) -> int:
        """How many tokens a window keeps; with a threshold, at most."""
        total = len(self.centre)
        if self.settings.keep == "count":
            return self.settings.count
        return math.floor(self.settings.share * total) if self.settings.keep == "share" else total

    def scores(self, series: Tensor) -> Tensor:
        """Normalized series [M, T] → [M, K] in means of the token's kind; 0 throughout a constant window."""
        with torch.no_grad(), torch.autocast(series.device.type, enabled=False):
            series = series.float()
            parts = [self._of_patches(series)] if self.patches else []
            parts = [self._of_wavelets(series, wavelets) for wavelets in self._wavelets] + parts
            means = (part.mean(dim=1, keepdim=True) for part in parts)
            return torch.cat([p / m.clamp_min(TINY) for p, m in zip(parts, means, strict=True)], dim=1)

    def needed(self, series: Tensor) -> Tensor:
        """How many tokens each window keeps: [M, T] → [M] int64. With a threshold, as many as are above it, and then so
        many more that only a few different sizes occur."""
        if self.settings.keep != "threshold":
            return torch.full((len(series),), self.most, device=series.device)
        score, total = self.scores(series), len(self.centre)
        above = (score > 0) & (score >= self.settings.threshold) | self._stays(score)
        step = math.ceil(total / SIZES)
        return (((above.sum(dim=1) + step - 1) // step) * step).clamp(max=total)

    def _stays(self, score: Tensor) -> Tensor:
        """Which tokens are kept whatever the others score: [M, K] → [M, K] bool."""
        found = torch.zeros_like(score, dtype=torch.bool)
        # Behind it the forecast begins.
        found[:, -1] = True
        for scale in self.scale.unique():
            if scale != self.scale[-1]:
                own = (self.scale == scale).nonzero()[:, 0]
                # Of equal ones the later.
                best = own.flip(0)[score[:, own.flip(0)].argmax(dim=1)]
                found.scatter_(1, best[:, None], True)
        return found

    def groups(self, series: Tensor, count: int) -> Groups:
        """The `count` tokens that stay of each window [M, T], and what stands for the others."""
        score = self.scores(series)
        first = score.masked_fill(self._stays(score), torch.inf)
        # Of equal scores the later token comes first.
        order = first.flip(1).argsort(dim=1, descending=True, stable=True)
        chosen = len(self.centre) - 1 - order[:, :count]
        places, turn = chosen.sort(dim=1)
        apart = (self.centre[:, None] - self.centre[None, :]).abs()
        # Another scale is farther than any stretch of time.
        apart = apart + (self.scale[:, None] != self.scale[None, :]) * (2 * apart.max() + 1)
        to_kept = apart[:, places].permute(1, 0, 2)
        return grouped(places, turn, score.gather(1, places), to_kept)

    def reduce(self, series: Tensor, embedded: Tensor, count: int) -> Reduced:
        """Tokens [M, K, C] of the windows [M, T] → `count` each."""
        if count >= embedded.shape[1]:
            return Reduced(embedded, None, None)
        return joined(embedded, self.groups(series, count), "merge" if self.settings.rest == "pool" else "drop")

    def _of_patches(self, series: Tensor) -> Tensor:
        if self.settings.by == "variance":
            return patches(series, *self.patch).var(dim=-1, unbiased=False)
        # Each band where it happens, squared: energy per step, which sums to the band's.
        density = self.components(series).square()
        cut = patches(density.flatten(end_dim=1), *self.patch).mean(dim=-1)
        local = cut.view(*density.shape[:2], -1)
        if self.settings.by == "entropy":
            return _entropy(local, dim=1)
        chosen = dominant(density.sum(dim=-1), self.settings.dominant)
        return (local * chosen.unsqueeze(-1)).sum(dim=1)

    def _of_wavelets(self, series: Tensor, wavelets: WaveletTokens) -> Tensor:
        real = wavelets.real
        square = wavelets.blocks(series).square() * real
        if self.settings.by == "entropy":
            return _entropy(square, dim=-1)
        # Steps that a block's coefficients stand for.
        each = series.shape[1] / torch.tensor(wavelets.lengths, device=series.device)[wavelets.scale]
        power = square.sum(dim=-1) / (real.sum(dim=-1) * each)
        if self.settings.by == "variance":
            return power
        return power * dominant(wavelets.energy(series), self.settings.dominant)[:, wavelets.chosen][:, wavelets.scale]


def dominant(energy: Tensor, share: float) -> Tensor:
    """The fewest scales that hold `share` of a window's energy: [M, B] → [M, B] bool; none where there is no energy."""
    ranked, order = energy.sort(dim=1, descending=True, stable=True)
    total = energy.sum(dim=1, keepdim=True)
    # A scale belongs to them while those before it hold less.
    before = ranked.cumsum(dim=1) - ranked
    chosen = (before < share * total) & (ranked > 0)
    return torch.zeros_like(chosen).scatter(1, order, chosen)


def _entropy(energy: Tensor, dim: int) -> Tensor:
    """Shannon entropy of shares along `dim`, between 0 and 1; 0 where there is no energy."""
    total = energy.sum(dim=dim, keepdim=True)
    share = energy / total.clamp_min(torch.finfo(energy.dtype).tiny)
    return torch.special.entr(share).sum(dim=dim) / math.log(max(energy.shape[dim], 2))
