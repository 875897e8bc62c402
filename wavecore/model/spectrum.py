"""The spectra by which a token budget tells patches apart (B1): whitened, over the whole window or locally.

Letters: M series, L patches of P steps, F features of a spectrum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wavecore.model.settings import BudgetSettings

# A frequency's weight is bounded as if each held at least this share of a window's mean power: noise is no evidence.
FLOOR = 0.25
# Patches on either side that make up the neighbourhood of a local spectrum.
NEIGHBOURS = 4


def spectra(cut: Tensor, settings: BudgetSettings) -> Tensor:
    """Whitened spectra of normalized patches: [M, L, P] → [M, L, F]; Euclidean distances between them are evidence.

    A patch has a mean power of 1 in every window and either description, so that evidence can be compared.
    """
    cut = cut.float()
    if settings.spectrum == "fourier":
        return _of_power_one(_fourier(cut))
    if settings.spectrum == "wavelet":
        return _of_power_one(_wavelet(cut))
    local = changing(cut) > settings.change
    fourier, wavelet = _of_power_one(_fourier(cut)), _of_power_one(_wavelet(cut))
    width = max(fourier.shape[-1], wavelet.shape[-1])
    fourier, wavelet = (nn.functional.pad(t, (0, width - t.shape[-1])) for t in (fourier, wavelet))
    return torch.where(local[:, None, None], wavelet, fourier)


def _of_power_one(features: Tensor) -> Tensor:
    power = features.square().sum(dim=-1).mean(dim=-1)
    return features / power.clamp_min(1e-12).sqrt()[:, None, None]


def changing(cut: Tensor) -> Tensor:
    """How much a window's spectrum changes, [M, L, P] → [M]: half the summed difference between the power shares of its
    two halves, 0 (the same) to 1 (no frequency in common)."""
    power = torch.fft.rfft(cut.float(), norm="ortho").abs().square()
    half = cut.shape[1] // 2
    shares = []
    for part in (power[:, :half], power[:, half:]):
        total = part.mean(dim=1)
        shares.append(total / total.sum(dim=-1, keepdim=True).clamp_min(1e-12))
    return (shares[0] - shares[1]).abs().sum(dim=-1) / 2


def contribution(cut: Tensor, settings: BudgetSettings) -> Tensor:
    """Each patch's share of its window's whitened spectral power, [M, L, P] → [M, L], summing to 1 (B6)."""
    power = spectra(cut, settings).square().sum(dim=-1)
    total = power.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, power / total.clamp_min(1e-12), torch.full_like(power, 1 / power.shape[-1]))


def _fourier(cut: Tensor) -> Tensor:
    """Real and imaginary part of each frequency, divided by the root of its mean power over the window."""
    length = cut.shape[-1]
    found = torch.fft.rfft(cut, norm="ortho")
    # Frequencies between the first and the last stand for two.
    twice = torch.full((found.shape[-1],), 2.0, device=cut.device)
    twice[0] = 1.0
    if length % 2 == 0:
        twice[-1] = 1.0
    parts = torch.view_as_real(found) * twice.sqrt()[:, None]
    power = parts.square().sum(dim=-1)
    weight = _whitening(power.mean(dim=1, keepdim=True))
    return (parts * weight.unsqueeze(-1)).flatten(start_dim=2)


def _wavelet(cut: Tensor) -> Tensor:
    """Haar coefficients of each patch, divided band by band by the root of their mean power nearby."""
    bands = _haar(cut)
    power = torch.stack([band.square().sum(dim=-1) for band in bands], dim=-1)
    near = nn.functional.avg_pool1d(
        power.transpose(1, 2), 2 * NEIGHBOURS + 1, stride=1, padding=NEIGHBOURS, count_include_pad=False
    ).transpose(1, 2)
    weight = _whitening(near)
    return torch.cat([band * weight[..., i : i + 1] for i, band in enumerate(bands)], dim=-1)


def _haar(cut: Tensor) -> list[Tensor]:
    """Orthonormal Haar bands, fine to coarse; an odd rest of a level is passed on as it is."""
    bands, rest = [], cut
    while rest.shape[-1] > 1:
        even = rest.shape[-1] // 2 * 2
        left, right = rest[..., 0:even:2], rest[..., 1:even:2]
        bands.append((left - right) / math.sqrt(2))
        rest = torch.cat([(left + right) / math.sqrt(2), rest[..., even:]], dim=-1)
    return [*bands, rest]


def _whitening(power: Tensor) -> Tensor:
    floor = FLOOR * power.mean(dim=-1, keepdim=True)
    return (power + floor).clamp_min(1e-12).rsqrt()
